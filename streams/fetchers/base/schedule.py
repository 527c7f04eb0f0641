"""When each feed is fetched next: pure. And the loop that does it, some feeds side by side.

    due feeds ──at most `jobs` at once──> fetch, each in a thread of its own ──> next time ──> due feeds

A feed never runs twice at once, and never waits for another but for a free place. What fails is tried again earlier
than at the next interval, each time later.
"""

from __future__ import annotations

import hashlib
import heapq
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

log = logging.getLogger(__name__)

JITTER = 0.1
"""Largest part of the interval by which a fetch comes later, so that not all come at once."""
FIRST_RETRY_S = 60.0
"""Wait after a first failure, seconds; doubled with each further one, up to the interval."""


def delay_s(feed: str, every_s: float, turn: int, failures: int) -> float:
    """Seconds from the end of a fetch to the next one.

    Args:
        feed: Name of the feed.
        every_s: The interval, seconds.
        turn: Number of fetches so far; with the name it decides the jitter.
        failures: Fetches that have failed one after the other.

    >>> delay_s("sigma", 3600.0, 1, 0) == delay_s("sigma", 3600.0, 1, 0), delay_s("sigma", 3600.0, 1, 1) < 70
    (True, True)
    """
    digest = hashlib.blake2b(f"{feed} {turn}".encode(), digest_size=4).digest()
    later = 1.0 + JITTER * int.from_bytes(digest, "big") / 2**32
    wait_s = min(every_s, FIRST_RETRY_S * 2.0 ** min(failures - 1, 20)) if failures else every_s
    return wait_s * later


@dataclass(frozen=True)
class Job:
    """One fetch that has ended."""

    feed: str
    succeeded: bool


def run_schedule(
    feeds: Sequence[str],
    every_s: float,
    jobs: int,
    fetch: Callable[[str], bool],
    stop: threading.Event,
    on_planned: Callable[[str, float], None],
) -> None:
    """Fetch every feed again and again until `stop` is set; fetches that run then are not waited for.

    Args:
        feeds: Names, in the order of their first fetch.
        every_s: Seconds between the end of a fetch of a feed and its next.
        jobs: Feeds that are fetched side by side, at most.
        fetch: Fetches one feed and says whether that succeeded. It may raise: that counts as a failure.
        stop: Set from outside to end.
        on_planned: Called with a feed and the seconds until its next fetch.
    """
    due = [(0.0, number, feed) for number, feed in enumerate(feeds)]
    ended: queue.Queue[Job] = queue.Queue()
    turns, failures = dict.fromkeys(feeds, 0), dict.fromkeys(feeds, 0)
    running, order = 0, len(feeds)
    while not stop.is_set():
        while due and running < jobs and due[0][0] <= time.monotonic():
            _, _, feed = heapq.heappop(due)
            _start(feed, fetch, ended)
            running += 1
        job = _next_ended(ended, due[0][0] if due and running < jobs else None)
        if job is None:
            continue
        running, order = running - 1, order + 1
        turns[job.feed] += 1
        failures[job.feed] = 0 if job.succeeded else failures[job.feed] + 1
        wait_s = delay_s(job.feed, every_s, turns[job.feed], failures[job.feed])
        heapq.heappush(due, (time.monotonic() + wait_s, order, job.feed))
        on_planned(job.feed, wait_s)


_POLL_S = 0.2
"""Longest time until `stop` is seen, seconds."""


def _next_ended(ended: queue.Queue[Job], due_s: float | None) -> Job | None:
    """The next fetch that ends, if one does before it is time to look again."""
    wait_s = _POLL_S if due_s is None else min(_POLL_S, max(0.0, due_s - time.monotonic()))
    try:
        return ended.get(timeout=wait_s) if wait_s else ended.get_nowait()
    except queue.Empty:
        return None


def _start(feed: str, fetch: Callable[[str], bool], ended: queue.Queue[Job]) -> None:
    """Fetch in a daemon thread: the process ends without it, and a fetch that is cut off loses nothing."""

    def run() -> None:
        succeeded = False
        try:
            succeeded = fetch(feed)
        except Exception:  # one feed's fault never stops the others
            log.exception("%s: not foreseen", feed)
        finally:
            ended.put(Job(feed, succeeded))

    threading.Thread(target=run, name=f"fetch-{feed}", daemon=True).start()
