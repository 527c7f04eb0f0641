"""Batches of similar length: every example once, little padding, a fixed order of random draws."""

from __future__ import annotations

import random

import pytest

from trainers.core.batching import batches_by_length, in_batches, shuffled_batches

LENGTHS = [(7 * i) % 23 + 1 for i in range(103)]


def test_batches_keep_the_order_and_the_last_one_may_be_smaller() -> None:
    assert in_batches(range(5), 2) == [[0, 1], [2, 3], [4]]
    assert in_batches([], 2) == []


def test_batches_by_length_have_every_example_once_with_the_shortest_first() -> None:
    batches = batches_by_length(LENGTHS, 8)
    lengths = [LENGTHS[i] for batch in batches for i in batch]
    assert lengths == sorted(LENGTHS)
    assert sorted(i for batch in batches for i in batch) == list(range(len(LENGTHS)))


def test_shuffled_batches_have_every_example_once_and_are_sorted_within_a_bucket() -> None:
    batches = shuffled_batches(LENGTHS, 4, 5, random.Random(1))
    assert sorted(i for batch in batches for i in batch) == list(range(len(LENGTHS)))
    assert all([LENGTHS[i] for i in batch] == sorted(LENGTHS[i] for i in batch) for batch in batches)


def test_the_random_draws_of_an_epoch_are_fixed_since_they_decide_the_weights() -> None:
    rng, reference = random.Random(17), random.Random(17)
    batches = shuffled_batches([5, 2, 9, 1, 4], 2, 1, rng)
    order = reference.sample(range(5), 5)
    expected = [sorted(order[i : i + 2], key=[5, 2, 9, 1, 4].__getitem__) for i in (0, 2, 4)]
    reference.shuffle(expected)
    assert batches == expected
    assert rng.getstate() == reference.getstate()


@pytest.mark.parametrize("lengths", [[], [3]])
def test_few_examples_need_no_bucket(lengths: list[int]) -> None:
    assert shuffled_batches(lengths, 4, 5, random.Random(1)) == ([[0]] if lengths else [])
