"""Batches of examples of similar length, so that little is padded."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def in_batches(items: Sequence[Item], batch_size: int) -> list[list[Item]]:
    """Split items into consecutive batches; the last one may be smaller.

    >>> in_batches([3, 1, 2], 2)
    [[3, 1], [2]]
    """
    return [list(items[i : i + batch_size]) for i in range(0, len(items), batch_size)]


def batches_by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """All examples in batches of similar length, the shortest first. For evaluation.

    Args:
        lengths: Tokens of each example.
        batch_size: Examples in a batch, at least 1.

    Returns:
        Indices of examples; together each index once.

    >>> batches_by_length([5, 2, 9], 2)
    [[1, 0], [2]]
    """
    return in_batches(sorted(range(len(lengths)), key=lambda i: lengths[i]), batch_size)


def shuffled_batches(
    lengths: Sequence[int], batch_size: int, batches_per_bucket: int, rng: random.Random
) -> list[list[int]]:
    """All examples in shuffled batches of similar length. For one epoch of training.

    The examples are shuffled, cut into buckets, sorted by length within each bucket and cut into batches; then the
    batches are shuffled.

    Args:
        lengths: Tokens of each example.
        batch_size: Examples in a batch, at least 1.
        batches_per_bucket: Batches that are cut from one bucket: fewer give more random batches and more padding.
        rng: Advanced by two draws.

    Returns:
        Indices of examples; together each index once.
    """
    batches: list[list[int]] = []
    for bucket in in_batches(rng.sample(range(len(lengths)), len(lengths)), batch_size * batches_per_bucket):
        batches += in_batches(sorted(bucket, key=lambda i: lengths[i]), batch_size)
    rng.shuffle(batches)
    return batches
