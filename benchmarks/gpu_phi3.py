"""The shape of Phi-3-mini with random weights and a LoRA adapter: the speed of the recipe, and that of a Trainer.

Both sides train the same adapter on the same examples, eight per step: 2,048 tokens on average. The recipe packs
them into one row; the Trainer pads them to the longest. Tokens are those of prompts and answers, without padding.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_data import Size
from schemas.recipes.phi3_lora import Phi3LoraConfig
from trainers.core.loop import device_of
from trainers.core.progress import RunProgress
from trainers.models.deterministic import make_deterministic
from trainers.models.phi3_lora.adapter import (
    TARGETS,
    add_adapter,
    precision_of,
    prepare_precision,
    training_attention,
)
from trainers.models.phi3_lora.packing import PackedRow, PromptAnswer
from trainers.models.phi3_lora.scorer import LanguageModelScorer
from trainers.models.phi3_lora.training import train_adapter

WARM_UP_STEPS = 3
"""Steps before the timed ones: kernels are loaded, and memory is taken from the system."""
SHARED_TOKENS = 4
"""Tokens that all prompts begin with, as those of a chat template do."""
PROMPT_TOKENS, ANSWER_TOKENS = (16, 144), (32, 320)
"""Fewest and most tokens, uniformly distributed: 256 on average for both together."""
PEAK_TFLOPS = {
    "H100 PCIe": 756.0, "H100 NVL": 835.0, "H100": 989.0, "H200": 989.0, "GH200": 989.0, "B200": 2250.0,
    "A100": 312.0, "L40S": 362.0, "L4": 121.0,
}  # fmt: skip
"""Part of the name of a GPU -> dense bf16 peak, from its data sheet; the first match counts."""


def ours(config: Phi3LoraConfig, size: Size) -> dict[str, Any]:
    """Train with the code of the recipe.

    Args:
        config: Device, precision, and the settings of the adapter.
        size: Of the model, and the number of steps.

    Returns:
        `tokens_per_s`, `seconds_per_step`, `tflops` (per second, see `count_flops`), `peak_tflops` and
        `share_of_peak` (None for a device whose peak is not known), `memory_gib` and `losses`.
    """
    make_deterministic(config)
    device = device_of(config)
    precision = precision_of(config, device)
    base = random_phi3(size, device, precision, training_attention(device))
    model = prepare_precision(add_adapter(base, config), precision).to(device)
    scorer = LanguageModelScorer(model, device, precision)
    clock = _Clock(device)
    rows: list[PackedRow] = []
    scorer.register_forward_pre_hook(lambda _module, inputs: rows.append(inputs[0]))
    history = train_adapter(scorer, examples(config, size), config, clock)
    timed = rows[WARM_UP_STEPS:]
    seconds = clock.seconds()
    flops = sum(count_flops(model, row) for row in timed)
    tokens = sum(_tokens_of(row) for row in timed)
    peak = peak_tflops(device)
    return {
        "tokens_per_s": tokens / seconds,
        "seconds_per_step": seconds / len(timed),
        "row_tokens": sum(row.input_ids.shape[1] for row in timed) / len(timed),
        "tflops": flops / seconds / 1e12,
        "peak_tflops": peak,
        "share_of_peak": flops / seconds / 1e12 / peak if peak else None,
        "memory_gib": memory_gib(device),
        "device_name": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "losses": [point.loss for point in history.points],
    }


def _tokens_of(row: PackedRow) -> int:
    """Tokens of the examples of a row, each with the shared prefix, and with the last token of its answer."""
    shared, *own = row.segment_sizes
    return sum(own) + len(own) * (shared + 1)


def count_flops(model: torch.nn.Module, row: PackedRow) -> int:
    """Floating-point operations that a training step needs for a row; a multiplication with an addition is two.

        frozen matrices      2 per weight and token forward, 2 for the gradient of the input, none for the weights.
                             The first layer's `qkv_proj` needs no gradient of its input
        LoRA matrices        2 forward, 2 for the input (none in the first `qkv_proj`), 2 for the weights
        attention            4 per pair of a query and a key, and per dimension of all heads, forward (scores, mean
                             of the values), 8 backward; a token attends to itself and to what precedes it
        output matrix        2 per weight and answer token for the logits, 2 for the gradient of the hidden state

    Norms, activations, rotary embeddings, and what is computed again or for padding do not count.

    Args:
        model: A Phi-3 with an adapter, all of whose layers have one.
        row: The packed row.
    """
    tokens, answers = row.input_ids.shape[1], len(row.answer_ids)
    config: Any = model.config
    width, layers, vocabulary = int(config.hidden_size), int(config.num_hidden_layers), int(config.vocab_size)
    matrices = {name: p.numel() for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name}
    flops = 0
    for name, weights in matrices.items():
        is_first = ".layers.0." in name and "qkv_proj" in name
        is_trained = "lora_" in name
        # Only B of the first qkv_proj passes a gradient on, to A.
        passes = 1 + (not is_first or "lora_B" in name) + is_trained
        flops += 2 * weights * tokens * passes
    shared, *own = row.segment_sizes
    pairs = shared * (shared + 1) // 2 + sum(size * shared + size * (size + 1) // 2 for size in own)
    return flops + 12 * pairs * width * layers + 4 * vocabulary * width * answers


def trainer(config: Phi3LoraConfig, size: Size, folder: Path) -> dict[str, Any]:
    """Train with the Trainer of transformers and PEFT.

    Args:
        config: As for `ours`.
        size: As for `ours`.
        folder: Where the Trainer may write.

    Returns:
        `tokens_per_s`, `seconds_per_step`, `memory_gib` and `losses` (the last one only).
    """
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainerCallback, TrainingArguments

    device = device_of(config)
    base = random_phi3(size, device, precision_of(config, device), "sdpa")
    settings = LoraConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # annotated as int; any number scales
        target_modules=list(TARGETS),
    )
    tokens_by_batch: list[int] = []

    def collate(batch: Sequence[PromptAnswer]) -> dict[str, torch.Tensor]:
        tokens_by_batch.append(sum(len(one.prompt) + len(one.answer) for one in batch))
        return padded(batch)

    clock = _Clock(device)

    class Timer(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
            clock(RunProgress("training", state.global_step, state.max_steps))

    arguments = TrainingArguments(
        str(folder / "trainer"), per_device_train_batch_size=config.batch_size, num_train_epochs=1, report_to=[],
        save_strategy="no", disable_tqdm=True, learning_rate=config.learning_rate, remove_unused_columns=False,
        bf16=device.type == "cuda", use_cpu=device.type == "cpu", logging_strategy="no",
        dataloader_pin_memory=device.type == "cuda",
    )  # fmt: skip
    result = Trainer(
        get_peft_model(base, settings), arguments, data_collator=collate,
        train_dataset=examples(config, size), callbacks=[Timer()],
    ).train()  # fmt: skip
    seconds, steps = clock.seconds(), size.phi3_steps
    return {
        "tokens_per_s": sum(tokens_by_batch[WARM_UP_STEPS : WARM_UP_STEPS + steps]) / seconds,
        "seconds_per_step": seconds / steps,
        "memory_gib": memory_gib(device),
        "losses": [float(result.training_loss)],
    }


def padded(batch: Sequence[PromptAnswer]) -> dict[str, torch.Tensor]:
    """A batch as a Trainer takes it, padded on the right: `input_ids`, `attention_mask` and `labels`, each
    (batch, longest), int64."""
    longest = max(len(one.prompt) + len(one.answer) for one in batch)
    shape = (len(batch), longest)
    ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, -100)
    for row, (prompt, answer) in enumerate(batch):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        mask[row, :end] = 1
        labels[row, len(prompt) : end] = torch.tensor(answer)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def random_phi3(size: Size, device: torch.device, precision: str, attention: str) -> Any:
    """A frozen Phi-3 with seeded random weights on a device; 32 layers of width 3,072 are Phi-3-mini."""
    from transformers import Phi3Config, Phi3ForCausalLM

    config = Phi3Config()
    if size.phi3_width != config.hidden_size:
        config = Phi3Config(
            vocab_size=512, hidden_size=size.phi3_width, intermediate_size=2 * size.phi3_width,
            num_attention_heads=4, num_key_value_heads=4, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )  # fmt: skip
    config.num_hidden_layers = size.phi3_layers
    torch.manual_seed(0)
    with torch.device(device):
        return Phi3ForCausalLM._from_config(  # type: ignore[no-untyped-call]
            config, dtype=getattr(torch, precision), attn_implementation=attention
        )


def examples(config: Phi3LoraConfig, size: Size) -> list[PromptAnswer]:
    """Random tokens for all steps; the same on each side."""
    rng = random.Random(5)
    shared = tuple(range(10, 10 + SHARED_TOKENS))

    def draw(number: int) -> tuple[int, ...]:
        return tuple(rng.randrange(20, 500) for _ in range(number))

    return [
        PromptAnswer(shared + draw(rng.randint(*PROMPT_TOKENS) - SHARED_TOKENS), draw(rng.randint(*ANSWER_TOKENS)))
        for _ in range((WARM_UP_STEPS + size.phi3_steps) * config.batch_size)
    ]


def peak_tflops(device: torch.device) -> float | None:
    """The dense bf16 peak of a GPU, in 10^12 operations per second; None if it is not known."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)


def memory_gib(device: torch.device) -> float | None:
    """The most memory that tensors took on a GPU, GiB; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


class _Clock:
    """The time of the steps after `WARM_UP_STEPS`, as a progress callback. It waits for the device at both ends."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._start = 0.0

    def __call__(self, progress: RunProgress) -> None:
        if progress.step == WARM_UP_STEPS:
            self._start = self._now()

    def seconds(self) -> float:
        """Seconds from the end of the warm-up to now."""
        return self._now() - self._start

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
