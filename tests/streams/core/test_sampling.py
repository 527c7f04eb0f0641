"""Samples are bounded, stratified by label and age, and the same for the same records."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.sampling import BottomK, StratifiedBottomK, sample_stratified, sample_uniform

Step = tuple[str, int, str]
"""`put` or `discard`, a key, a stratum."""

STEPS = st.lists(
    st.tuples(st.sampled_from(("put", "put", "put", "discard")), st.integers(0, 60), st.sampled_from("abbbbbcd")),
    max_size=200,
)


def after(steps: list[Step], size: int = 10) -> StratifiedBottomK:
    sample = StratifiedBottomK(size=size)
    for offset, step in enumerate(steps):
        apply(sample, offset, step)
    return sample


def apply(sample: StratifiedBottomK, offset: int, step: Step) -> None:
    action, key, stratum = step
    if action == "put":
        sample.put(key, offset, stratum)
    else:
        sample.discard(key)


@given(STEPS, st.integers(1, 30))
@settings(max_examples=200, deadline=None)
def test_it_holds_the_latest_example_of_each_key_and_never_more_than_its_size(steps: list[Step], size: int) -> None:
    sample = after(steps, size)
    latest: dict[int, tuple[int, str]] = {}
    for offset, (action, key, stratum) in enumerate(steps):
        latest[key] = (offset, stratum)
        if action == "discard":
            del latest[key]
    assert sample.entries.items() <= latest.items()
    assert len(sample.entries) <= size
    assert Counter(stratum for _, stratum in sample.entries.values()) == sample.counts
    assert sample.max_count == max(sample.counts.values(), default=0)
    if len({key for _, key, _ in steps}) <= size:
        assert sample.entries == latest


@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from("abbbbbcd")), max_size=200))
@settings(max_examples=200, deadline=None)
def test_each_stratum_holds_its_smallest_hashes_and_is_not_crowded_out_by_a_larger_one(
    pairs: list[tuple[int, str]],
) -> None:
    of_key = dict(reversed(pairs))
    sample = after([("put", key, of_key[key]) for key, _ in pairs], size=12)
    for stratum, count in Counter(of_key.values()).items():
        held = sorted(key for key, entry in sample.entries.items() if entry[1] == stratum)
        assert held == sorted(key for key in of_key if of_key[key] == stratum)[: len(held)]
        assert len(held) >= min(count, 12 // 4), "a quarter of the sample for each of four strata"


@given(STEPS, st.integers(0, 200))
@settings(max_examples=100, deadline=None)
def test_a_restart_from_any_snapshot_changes_nothing(steps: list[Step], at: int) -> None:
    again = msgspec.json.decode(msgspec.json.encode(after(steps[:at])), type=StratifiedBottomK)
    for offset, step in list(enumerate(steps))[at:]:
        apply(again, offset, step)
    assert msgspec.json.encode(again) == msgspec.json.encode(after(steps))


@given(STEPS, st.integers(1, 10))
@settings(max_examples=100, deadline=None)
def test_a_smaller_size_takes_effect_at_once_and_evicts_from_the_largest_stratum(
    steps: list[Step], size: int
) -> None:
    sample = after(steps)
    before = dict(sample.counts)
    sample.resize(size)
    assert len(sample.entries) == min(size, sum(before.values()))
    for stratum, count in before.items():
        assert sample.counts.get(stratum, 0) >= min(count, sample.max_count - 1)


def test_heaps_do_not_grow_with_edits() -> None:
    steps = [("put", key, "ab"[turn % 2]) for turn in range(2_000) for key in range(5)]
    sample = after(steps)
    assert sum(map(len, sample.heaps.values())) < 200


def test_a_stratified_sample_has_the_same_share_of_every_stratum_and_age_bin() -> None:
    common = [(key, key, "common") for key in range(1_000)]
    rare = [(5_000 + key, 100 + 250 * key, "rare") for key in range(4)]
    chosen = sample_stratified([*common, *rare], 24, seed=1, salt=2)
    assert len(chosen) == 24
    assert sum(offset in {at for _, at, _ in rare} for offset in chosen) >= 4 - 1
    ages = Counter(offset * 4 // 1_000 for offset in chosen if offset not in {at for _, at, _ in rare})
    assert max(ages.values()) - min(ages.values()) <= 1


@pytest.mark.parametrize("count", [0, 3, 50])
def test_a_stratified_sample_depends_on_seed_and_salt_and_not_on_the_order(count: int) -> None:
    candidates = [(key * 7919 % 1_000, key, "abc"[key % 3]) for key in range(40)]
    chosen = sample_stratified(candidates, count, 1, 2)
    assert sample_stratified(list(reversed(candidates)), count, 1, 2) == chosen
    assert len(set(chosen)) == len(chosen) == min(count, 40)
    assert (sample_stratified(candidates, count, 1, 3) != chosen) is (count == 3)


def test_a_uniform_sample_has_the_recorded_offsets() -> None:
    pairs = [(key * 7919 % 1_000, key) for key in range(40)]
    assert sample_uniform(pairs, 4, 17, 1) == (8, 12, 15, 33)
    sample = BottomK(size=3)
    for key, offset in pairs:
        sample.put(key, offset)
    assert sorted(sample.offsets) == sorted(key for key, _ in pairs)[:3]
