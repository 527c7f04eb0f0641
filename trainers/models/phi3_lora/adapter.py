"""A frozen Phi-3 with a LoRA adapter: loading both, in which precision and with which attention.

LoRA adds a trained low-rank product B A to a frozen weight matrix: Hu et al., 2021, https://arxiv.org/abs/2106.09685.
Only A and B are trained and saved; the base model stays as it is, where it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AttentionInterface, Phi3ForCausalLM
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from schemas.errors import BadConfiguration
from schemas.recipes.base import BFLOAT16, FLOAT32
from schemas.recipes.phi3_lora import Phi3LoraConfig
from trainers.bases.quiet import loading_transformers
from trainers.core.precision import gpu_precision
from trainers.models.phi3_lora.packing import packed_attention
from trainers.models.phi3_lora.padded_attention import padded_attention

TARGETS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
"""Names of the adapted matrices: every matrix of a Phi-3 layer."""
PACKED_ATTENTION = "sx9_packed"
"""The name under which `packed_attention` is registered with `transformers`."""
PADDED_ATTENTION = "sx9_padded"
"""The name under which `padded_attention` is registered with `transformers`."""

AttentionInterface.register(PACKED_ATTENTION, packed_attention)
AttentionInterface.register(PADDED_ATTENTION, padded_attention)
for _name in (PACKED_ATTENTION, PADDED_ATTENTION):
    ALL_MASK_ATTENTION_FUNCTIONS.register(_name, lambda *_, **__: None)


def load_model(base: Path, parent: Path | None, config: Phi3LoraConfig, device: torch.device) -> PeftModel:
    """The frozen base model with the parent's adapter, or with a new one that does not change its output yet.

    Args:
        base: Folder of the base model.
        parent: Folder of the version to start from, or None for a new adapter.
        config: Of a new adapter: `rank`, `alpha`, `layers`. Of both: `dropout`, `precision`,
            `gradient_checkpointing`, and `seed`, which initializes a new adapter.
        device: Where the model computes.

    Returns:
        The model in evaluation mode; the parameters of the adapter are float32 and trainable.

    Raises:
        BadConfiguration: The parent is an adapter of another base model.
    """
    model = load_base(base, precision_of(config, device), training_attention(device))
    torch.manual_seed(config.seed)  # loading the base may have drawn random numbers
    adapted = _load_adapter(parent, model, config) if parent else add_adapter(model, config)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return prepare_precision(adapted, precision_of(config, device)).eval().to(device)


def load_base(base: Path, precision: str, attention: str) -> Phi3ForCausalLM:
    """A base model from safetensors files on this machine.

    Args:
        base: Its folder.
        precision: `float32` or `bfloat16`.
        attention: Name of an attention implementation of `transformers`.
    """
    with loading_transformers():
        return Phi3ForCausalLM.from_pretrained(
            base,
            dtype=getattr(torch, precision),
            attn_implementation=attention,
            use_safetensors=True,
            local_files_only=True,
        )


def add_adapter(model: Phi3ForCausalLM, config: Phi3LoraConfig) -> PeftModel:
    """Add a new adapter to a base model, which is changed in place."""
    layers = model.config.num_hidden_layers
    settings = LoraConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # annotated as int; any number scales
        lora_dropout=config.dropout,
        target_modules=list(TARGETS),
        layers_to_transform=list(range(max(0, layers - config.layers), layers)) if config.layers else None,
    )
    return cast(PeftModel, get_peft_model(model, settings))


def prepare_precision(model: PeftModel, precision: str) -> PeftModel:
    """Leave the precision of an adapter's inputs to `autocast`, where the model computes in bf16.

    PEFT would convert them to float32, the precision of the adapter's weights, and `autocast` would convert them
    back: the same values for four passes over memory.
    """
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            cast(Any, module).cast_input_dtype_enabled = precision != BFLOAT16
    return model


def _load_adapter(parent: Path, model: Phi3ForCausalLM, config: Phi3LoraConfig) -> PeftModel:
    settings = PeftConfig.from_pretrained(str(parent))
    if settings.base_model_name_or_path != base_name(config):
        raise BadConfiguration(
            f"{parent} is an adapter of base model {settings.base_model_name_or_path}, not of {base_name(config)}: "
            "set SX9_TRAINER_PHI3_LORA_BASE to the former, or move the versions of the model away to start again"
        )
    settings.lora_dropout = config.dropout
    return PeftModel.from_pretrained(model, str(parent), is_trainable=True, config=settings)


def base_name(config: Phi3LoraConfig) -> str:
    """The name by which an adapter refers to its base model: a hub id, or the name of a stand-in.

    Of a folder it is the last part of the path: the whole path means nothing on another machine.
    """
    path = Path(config.base).expanduser()
    return path.resolve().name if path.is_dir() else config.base


def precision_of(config: Phi3LoraConfig, device: torch.device) -> str:
    """The precision of the base model and of the computation: the configured one, else `default_precision`."""
    return config.precision or default_precision(device)


def default_precision(device: torch.device) -> str:
    """`bfloat16` on a GPU and on a CPU with instructions for it, else `float32`."""
    if device.type != "cpu":
        return gpu_precision(device)
    able = torch.cpu.get_capabilities()
    return BFLOAT16 if able.get("avx512_bf16") or able.get("amx_bf16") else FLOAT32


def training_attention(device: torch.device) -> str:
    """The attention implementation for packed rows: segment by segment on a CPU, all at once on a GPU."""
    return PACKED_ATTENTION if device.type == "cpu" else PADDED_ATTENTION
