"""The distance is a bounded, symmetric distance of distributions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.detectors.jensen_shannon import jensen_shannon

COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 1_000))


@given(COUNTS, COUNTS)
def test_it_is_symmetric_and_between_zero_and_one(p: dict[str, int], q: dict[str, int]) -> None:
    assert 0.0 <= jensen_shannon(p, q) <= 1.0
    assert jensen_shannon(p, q) == pytest.approx(jensen_shannon(q, p), abs=1e-9)


@given(COUNTS, st.integers(1, 50))
def test_it_depends_on_the_shares_and_not_on_the_counts(p: dict[str, int], factor: int) -> None:
    # The square root turns a rounding error of 1e-16 into 1e-8.
    assert jensen_shannon(p, {label: factor * count for label, count in p.items()}) == pytest.approx(0.0, abs=1e-7)


def test_it_has_the_value_of_its_definition() -> None:
    p_half, q_one = 0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25), math.log2(1 / 0.75)
    assert jensen_shannon({"a": 1, "b": 1}, {"a": 3}) == pytest.approx(math.sqrt((p_half + q_one) / 2))


def test_an_empty_distribution_is_equal_to_an_empty_one_only() -> None:
    assert jensen_shannon({}, {}) == 0.0
    assert jensen_shannon({}, {"a": 1}) == jensen_shannon({"a": 1}, {}) == 1.0
