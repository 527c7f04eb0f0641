"""When the open window closes, and what it becomes."""

from __future__ import annotations

from schemas.policy import Policy
from streams.core.windows import OpenWindow, close_window, due_to_close
from tests.streams.core.records import example

POLICY = Policy(window_examples=2, window_age_s=10.0)


def window(*, examples: int = 0, holdout: int = 0, retracted: int = 0) -> OpenWindow:
    found = OpenWindow(start=5, opened_ms=1_000)
    for number in range(examples + holdout):
        found.add(example(number, "b", "a"), ("b", "a"), holdout=number >= examples)
    for number in range(retracted):
        found.add(example(100 + number, retracted=True), (), holdout=False)
    return found


def test_it_closes_at_its_number_of_training_examples() -> None:
    assert due_to_close(window(examples=1, holdout=9, retracted=9), POLICY, 1_000) is None
    assert due_to_close(window(examples=2), POLICY, 1_000) == "volume"


def test_it_closes_at_its_age_even_if_it_has_only_a_retraction() -> None:
    assert due_to_close(window(retracted=1), POLICY, 10_999) is None
    assert due_to_close(window(retracted=1), POLICY, 11_000) == "age"


def test_an_empty_window_stays_open() -> None:
    assert window().is_empty
    assert due_to_close(window(), POLICY, 10**12) is None


def test_a_closed_window_has_the_counts_of_the_open_one_and_the_labels_of_its_training_examples() -> None:
    closed = close_window(window(examples=2, holdout=1, retracted=1), "m", 12, 9_000, "age")
    assert (closed.id, closed.opened_ms, closed.closed_ms, closed.closed_by) == ("m:5-12", 1_000, 9_000, "age")
    assert (closed.examples, closed.holdout, closed.retracted) == (2, 1, 1)
    assert list(closed.labels.items()) == [("a", 2), ("b", 2)]


def test_the_digest_depends_on_the_order_of_the_examples() -> None:
    one, two = example(1), example(2)
    windows = [OpenWindow(), OpenWindow()]
    for found, order in zip(windows, ((one, two), (two, one)), strict=True):
        for each in order:
            found.add(each, each.labels, holdout=False)
    assert windows[0].digest != windows[1].digest
