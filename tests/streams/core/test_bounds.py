"""The limits of the fold: what a window and a trigger hold at most fits a message."""

from __future__ import annotations

import pytest

from schemas.codec import MAX_RECORD_BYTES, encode
from schemas.policy import MAX_SAMPLE
from schemas.windows import Measure, Span, Trigger, Window
from streams.core.bounds import (
    MAX_ID_CHARS,
    MAX_LABEL_BYTES,
    MAX_LABELS,
    MAX_SPANS,
    counted_labels,
    merge_oldest,
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
    merged = merge_oldest(before, boundary)
    assert len(merged) == MAX_SPANS
    assert [span.start for span in merged] == [0, *(span.end for span in merged[:-1])]
    assert (merged[-1], sum(s.examples for s in merged)) == (before[-1], sum(s.examples for s in before))
    assert boundary in (0, *(span.end for span in merged))
    assert merge_oldest(before[:MAX_SPANS], boundary) == before[:MAX_SPANS]
