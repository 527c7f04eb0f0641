"""The window holds the latest examples and counts their labels."""

from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streams.core.detectors.label_window import LabelWindow

LABELS = st.sets(st.sampled_from("abcd"), max_size=3).map(lambda drawn: tuple(sorted(drawn)))
STEPS = st.lists(LABELS | st.integers(1, 12), max_size=60)
"""Labels to add, or a new size."""


def oldest_first(window: LabelWindow) -> list[tuple[str, ...]]:
    return window.labels[window.position :] + window.labels[: window.position]


@given(st.integers(1, 12), STEPS)
def test_it_holds_the_latest_examples_and_their_counts(size: int, steps: list[tuple[str, ...] | int]) -> None:
    window, expected = LabelWindow(size=size), list[tuple[str, ...]]()
    for step in steps:
        if isinstance(step, int):
            size = step
            window.resize(size)
        else:
            window.add(step)
            expected.append(step)
        expected = expected[-size:]
        assert oldest_first(window) == expected
        assert len(window) == len(expected)
        assert window.counts == Counter(label for labels in expected for label in labels)


@given(STEPS)
def test_it_is_restored_from_its_encoding(steps: list[tuple[str, ...] | int]) -> None:
    window = LabelWindow(size=5)
    for step in steps:
        window.resize(step) if isinstance(step, int) else window.add(step)
    assert msgspec.json.decode(msgspec.json.encode(window), type=LabelWindow) == window
