"""Generates answers: batches of prompts, padded on the left, decoded greedily."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from peft import PeftModel
from transformers import Phi3ForCausalLM

from schemas.journal import Instruction
from trainers.bases.quiet import quiet_transformers
from trainers.core.batching import batches_by_length
from trainers.core.precision import autocast
from trainers.core.progress import ProgressCallback, RunProgress, no_progress
from trainers.models.phi3_lora.chat import Chat

BATCH_SIZE = 16
"""Answers that are generated together."""


def generate(
    model: PeftModel,
    chat: Chat,
    instructions: Sequence[Instruction],
    max_new_tokens: int,
    precision: str,
    phase: str = "generating answers",
    on_progress: ProgressCallback = no_progress,
) -> list[str]:
    """Answer instructions; each token is the most likely one.

    Args:
        model: The base model with its adapter, enabled or not.
        chat: Encodes the instructions.
        instructions: Their outputs are not read. May be empty.
        max_new_tokens: Largest number of tokens of an answer, at least 1.
        precision: `float32` or `bfloat16`.
        phase: Named in the progress.
        on_progress: Called after every batch.

    Returns:
        The answers in the order of the instructions, without special tokens and surrounding white space.
    """
    prompts = [chat.prompt(instruction) for instruction in instructions]
    found: dict[int, str] = {}
    batches = batches_by_length([len(prompt) for prompt in prompts], BATCH_SIZE)
    base = cast(Phi3ForCausalLM, model.get_base_model())
    device = base.device
    generate_ids = cast(Any, model).generate
    with _cached_attention(base), torch.inference_mode(), autocast(device, precision), quiet_transformers():
        for step, batch in enumerate(batches, 1):
            input_ids, attention_mask = _pad_left([prompts[i] for i in batch], chat.end_id, device)
            output = generate_ids(
                input_ids=input_ids,
                attention_mask=attention_mask,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=chat.end_id,
                pad_token_id=chat.end_id,
            )
            texts = chat.tokenizer.batch_decode(output[:, input_ids.shape[1] :], skip_special_tokens=True)
            found |= zip(batch, (text.strip() for text in texts), strict=True)
            on_progress(RunProgress(phase, step, len(batches)))
    return [found[i] for i in range(len(prompts))]


@contextlib.contextmanager
def _cached_attention(model: Phi3ForCausalLM) -> Iterator[None]:
    """While the block runs, the model uses an attention that supports padding and a key-value cache."""
    before = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _pad_left(
    prompts: Sequence[tuple[int, ...]], pad_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts as one batch in which all end at the same position.

    Returns:
        Token ids and attention mask (0 for padding), both (prompts, longest), int64.
    """
    longest = max(map(len, prompts))
    input_ids = torch.full((len(prompts), longest), pad_id, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    for row, prompt in enumerate(prompts):
        input_ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        attention_mask[row, longest - len(prompt) :] = 1
    return input_ids.to(device), attention_mask.to(device)
