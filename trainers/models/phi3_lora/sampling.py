"""Samples of examples to rehearse and of instructions to score, chosen by a hash of their keys."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from schemas.journal import Instruction
from schemas.recipes.phi3_lora import Phi3LoraConfig
from trainers.core.dataset import Dataset, OffsetExample

MIN_REHEARSED = 8
"""A small window is trained with at least this many rehearsed examples, if there are so many."""


def instructions_of(examples: Sequence[OffsetExample]) -> list[Instruction]:
    """All instructions of some examples, in order."""
    return [instruction for _, example in examples for instruction in example.instructions]


def sample_rehearsal(data: Dataset, config: Phi3LoraConfig) -> tuple[OffsetExample, ...]:
    """A sample of `data.rehearsal`, in order of offset, so that the cost of a run depends on what is new.

    Args:
        data: The examples of the run.
        config: Its `rehearsal` bounds the ratio to the new examples (0 for no rehearsal); its `seed` decides the
            sample.
    """
    size = max(round(len(data.fresh) * config.rehearsal), MIN_REHEARSED if config.rehearsal else 0)
    ranked = sorted(data.rehearsal, key=lambda offset_example: _rank(offset_example[1].key, config.seed))
    return tuple(sorted(ranked[:size]))


def sample_instructions(examples: Sequence[OffsetExample], size: int) -> list[Instruction]:
    """At most `size` instructions of some examples; the same ones whatever the seed."""
    ranked = [
        (_rank(f"{example.key}:{i}"), instruction)
        for _, example in examples
        for i, instruction in enumerate(example.instructions)
    ]
    return [instruction for _, instruction in sorted(ranked, key=lambda pair: pair[0])[:size]]


def sample_holdout(data: Dataset, size: int) -> tuple[list[Instruction], list[Instruction]]:
    """Instructions of the old and of the recent holdout, at most `size` together.

    Each part gets half of the size, or what the other one leaves.
    """
    old, recent = (len(instructions_of(part)) for part in (data.old, data.recent))
    old_size = min(old, max(size // 2, size - recent))
    return sample_instructions(data.old, old_size), sample_instructions(data.recent, size - old_size)


def _rank(name: str, salt: int = 0) -> bytes:
    return hashlib.blake2b(f"{salt}:{name}".encode(), digest_size=8).digest()
