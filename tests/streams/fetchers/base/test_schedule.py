"""Feeds side by side: none runs twice at once, none waits for another, and the plan of the next is bounded."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.fetchers.base.feed_status import FeedStatus, after_failure, read_all, read_status, write_status
from streams.fetchers.base.schedule import FIRST_RETRY_S, JITTER, delay_s, run_schedule


@given(st.text(max_size=20), st.integers(0, 9_999), st.integers(0, 2_000))
def test_the_next_fetch_is_never_later_than_the_interval_and_its_jitter(
    feed: str, turn: int, failures: int
) -> None:
    assert 0 < delay_s(feed, 3_600.0, turn, failures) <= 3_600.0 * (1 + JITTER)


def test_a_failure_is_tried_again_soon_and_each_further_one_later() -> None:
    waits = [delay_s("a", 86_400.0, 0, failures) for failures in range(1, 8)]
    assert waits == sorted(waits)
    assert waits[0] <= FIRST_RETRY_S * (1 + JITTER)


def test_feeds_do_not_all_come_at_once() -> None:
    assert len({delay_s(f"feed-{n}", 3_600.0, 1, 0) for n in range(50)}) == 50


def test_as_many_feeds_as_allowed_run_side_by_side_and_a_fault_stops_none() -> None:
    stop, both = threading.Event(), threading.Barrier(2)
    counted, failed, planned = Counter[str](), Counter[str](), Counter[str]()
    most, running, guard = 0, Counter[str](), threading.Lock()

    def fetch(feed: str) -> bool:
        nonlocal most
        with guard:
            running[feed] += 1
            counted[feed] += 1
            most = max(most, running.total())
            assert running[feed] == 1
        if counted[feed] == 1 and feed in ("a", "b"):
            both.wait(30)  # only if both run at once does either go on
        with guard:
            running[feed] -= 1
        if feed == "bad":
            raise ZeroDivisionError("surprise")
        return True

    def on_planned(feed: str, wait_s: float) -> None:
        planned[feed] += 1
        failed[feed] += wait_s < 1.0 if feed == "bad" else 0
        if min(planned[each] for each in ("a", "b", "c", "bad")) >= 3:
            stop.set()

    run_schedule(("a", "b", "bad", "c"), 0.01, 2, fetch, stop, on_planned)
    assert most == 2
    assert min(counted.values()) >= 3


def test_the_status_of_a_feed_survives_a_failure_and_a_damaged_file(tmp_path: Path) -> None:
    good = FeedStatus(feed="a", release="15.1", last_success_ms=7, new=3, edited=1)
    write_status(tmp_path, good)
    failed = after_failure(after_failure(good, "away"), "x" * 9_999)
    assert (failed.failures, failed.last_success_ms, len(failed.error)) == (2, 7, 500)
    write_status(tmp_path, failed)
    (tmp_path / "b.json").write_bytes(b"{")
    assert read_all(tmp_path) == [failed, FeedStatus(feed="b")]
    assert read_status(tmp_path, "never") == FeedStatus(feed="never")


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_schedule_that_is_stopped_ends(jobs: int) -> None:
    stop = threading.Event()
    stop.set()
    run_schedule(("a",), 60.0, jobs, lambda _: True, stop, lambda *_: None)
