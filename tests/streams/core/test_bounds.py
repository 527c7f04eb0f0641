"""The limits of the fold: what a window and a trigger hold at most fits a message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import MAX_RECORD_BYTES, encode
from schemas.policy import MAX_SAMPLE
from schemas.windows import Measure, Span, Trigger, Window
from streams.core.bounds import (
    MAX_ID_CHARS,
    MAX_LABEL_BYTES,
    MAX_LABELS,
    MAX_SPANS,
    PendingSpan,
    counted_labels,
    merge_oldest,
    spans_of_a_run,
)

LARGE = 2**63 - 1
LABELS = tuple(f"{n:0{MAX_LABEL_BYTES}}" for n in range(MAX_LABELS))


def spans(count: int) -> list[Span]:
    return [Span(10 * n, 10 * n + 10, 7, f"{n:032x}") for n in range(count)]


def test_a_window_with_as_many_labels_as_there_can_be_fits_a_message() -> None:
    window = Window(
        model="m" * 100, start=LARGE, end=LARGE, closed_by="trigger", opened_ms=LARGE, closed_ms=LARGE,
        examples=LARGE, holdout=LARGE, retracted=LARGE, labels=dict.fromkeys(LABELS, LARGE), digest="f" * 32,
    )  # fmt: skip
    assert len(encode(window)) < MAX_RECORD_BYTES


def test_a_trigger_with_everything_at_its_limit_fits_a_message() -> None:
    sample = (LARGE,) * MAX_SAMPLE
    text = "\x00" * MAX_ID_CHARS  # six bytes each
    trigger = Trigger(
        model="m" * 100, number=LARGE, offset=LARGE, reason="staleness", at_ms=LARGE, parent=text,
        spans=(Span(LARGE, LARGE, LARGE, "f" * 32),) * (MAX_SPANS + 1), rehearsal=sample, holdout_old=sample,
        holdout_recent=sample, labels=LABELS, measures=(Measure(text, 1e-300, 1e-300, True, text),) * 5, seed=LARGE,
    )  # fmt: skip
    assert len(encode(trigger)) < MAX_RECORD_BYTES


@pytest.mark.parametrize(
    ("label", "counts"),
    [
        ("x" * MAX_LABEL_BYTES, True),
        ("x" * (MAX_LABEL_BYTES + 1), False),
        ("\N{SNOWMAN}" * (MAX_LABEL_BYTES // 3), True),
        ("\N{SNOWMAN}" * (MAX_LABEL_BYTES // 3 + 1), False),
        ("\x00" * (MAX_LABEL_BYTES // 6 + 1), False),
    ],
)
def test_a_label_counts_if_it_is_short_as_it_is_encoded(label: str, counts: bool) -> None:
    assert counted_labels((label, "impact"), (), ()) == ((label, "impact") if counts else ("impact",))


def test_a_new_label_counts_while_there_is_room_and_a_known_one_always() -> None:
    known, also_known = LABELS[: MAX_LABELS // 2], LABELS[MAX_LABELS // 2 : -1]
    assert counted_labels(("one", "two", LABELS[0]), known, also_known) == ("one", LABELS[0])
    assert counted_labels(("one", LABELS[7]), {*known, LABELS[-1]}, also_known) == (LABELS[7],)


@pytest.mark.parametrize("boundary", [0, 10, 20, 10 * MAX_SPANS])
def test_merged_spans_are_consecutive_and_hold_the_same_examples_and_the_boundary_stays(boundary: int) -> None:
    before = spans(MAX_SPANS + 40)
    found = merge_oldest([PendingSpan(span, {"impact": 7}) for span in before], boundary, 0)
    merged = [each.span for each in found]
    assert [each.labels["impact"] for each in found] == [span.examples for span in merged]
    assert len(merged) == MAX_SPANS
    assert [span.start for span in merged] == [0, *(span.end for span in merged[:-1])]
    assert (merged[-1], sum(s.examples for s in merged)) == (before[-1], sum(s.examples for s in before))
    assert boundary in (0, *(span.end for span in merged))
    few = [PendingSpan(span, {}) for span in before[:MAX_SPANS]]
    assert merge_oldest(few, boundary, 0) == few


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.integers(0, 60))
def test_a_run_takes_the_oldest_spans_up_to_its_bound_and_at_least_one(sizes: list[int], bound: int) -> None:
    pending = [PendingSpan(Span(n, n + 1, size, ""), {}) for n, size in enumerate(sizes)]
    taken = spans_of_a_run(pending, bound)
    assert taken == pending[: len(taken)]
    assert taken
    if bound:
        assert len(taken) == 1 or sum(sizes[: len(taken)]) <= bound
        assert len(taken) == len(pending) or sum(sizes[: len(taken) + 1]) > bound
    else:
        assert taken == pending


def test_pending_spans_are_merged_up_to_what_a_run_takes() -> None:
    pending = [PendingSpan(Span(n, n + 1, 7, ""), {}) for n in range(4 * MAX_SPANS)]
    merged = merge_oldest(pending, 0, 20)
    assert {each.span.examples for each in merged} == {14}
    assert len(merged) == 2 * MAX_SPANS
