"""The queries of many requests in one batch: one thread per model, so that the processors are never shared.

    request ──submit──> waiting jobs ──take──> a batch of one version ──predict──> each job gets its part
                        (bounded)      └ an equal share for each job, then whatever fits, oldest first

Nothing waits for a batch to fill: while one is computed, the next one gathers. All queries of a job are answered by
the version that the job came with, so no answer is mixed. A long job does not hold up short ones.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from serving import telemetry
from serving.errors import Busy, TimedOut
from serving.predictors import LoadedVersion

log = logging.getLogger(__name__)

_MAX_RETRY_AFTER_S = 60


@dataclass(frozen=True)
class Answered:
    """The predictions for the queries of a request, in order, and how long they took.

    Attributes:
        waited_s: Until the first query was taken.
        computed_s: From then until the last one was answered.
    """

    predictions: list[Any]
    waited_s: float
    computed_s: float


@dataclass(eq=False)
class _Job:
    version: LoadedVersion
    queries: Sequence[Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Answered]
    deadline_s: float
    queued_s: float = field(default_factory=time.monotonic)
    started_s: float = 0.0
    taken: int = 0
    found: list[Any] = field(default_factory=list)
    given_up: bool = False

    @property
    def left(self) -> int:
        return len(self.queries) - self.taken


class Batcher:
    """Answers queries of one model in batches.

    Args:
        model: Its name, for the log and the metrics.
        batch_size: Most queries of a batch, at least 1.
        queue_size: Most queries that wait.
        timeout_s: Longest time from `submit` to the answer, seconds.
    """

    def __init__(self, model: str, batch_size: int, queue_size: int, timeout_s: float) -> None:
        self._model = model
        self._batch_size = batch_size
        self._queue_size = queue_size
        self._timeout_s = timeout_s
        self._jobs: list[_Job] = []
        self._waiting = 0
        self._per_second = 0.0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"batches-{model}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many queries wait."""
        return self._waiting

    async def submit(self, version: LoadedVersion, queries: Sequence[Any]) -> Answered:
        """Answer queries with a version.

        Raises:
            Busy: Too many queries wait.
            TimedOut: The answer was not there in time.
        """
        if not queries:
            return Answered([], 0.0, 0.0)
        loop = asyncio.get_running_loop()
        job = _Job(version, queries, loop, loop.create_future(), time.monotonic() + self._timeout_s)
        with self._changed:
            if self._waiting + len(queries) > self._queue_size:
                raise Busy(
                    f"{self._waiting} texts wait and {len(queries)} more came; the limit is {self._queue_size} "
                    "(SX9_SERVE_QUEUE_TEXTS): try again later, or send fewer at once",
                    self._retry_after_s(),
                )
            self._jobs.append(job)
            self._count(len(queries))
            self._changed.notify()
        try:
            return await asyncio.wait_for(job.future, self._timeout_s)
        except TimeoutError:
            raise TimedOut(
                f"no answer within {self._timeout_s:g} s (SX9_SERVE_TIMEOUT_S): send fewer or shorter texts"
            ) from None
        finally:
            job.given_up = True

    def close(self) -> None:
        """End the thread; jobs that wait are not answered."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _retry_after_s(self) -> int:
        seconds = self._waiting / self._per_second if self._per_second else 1.0
        return min(max(math.ceil(seconds), 1), _MAX_RETRY_AFTER_S)

    def _count(self, more: int) -> None:
        self._waiting += more
        telemetry.WAITING.labels(model=self._model).set(self._waiting)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                parts = self._take()
            if parts:
                self._answer(parts)
            parts = []  # or a version that serves no longer stays in memory until the next request

    def _take(self) -> list[tuple[_Job, int, int]]:
        """Parts of jobs for one batch: (job, start, end). Jobs that nobody waits for are dropped."""
        now_s = time.monotonic()
        for job in self._jobs:
            if job.given_up or now_s > job.deadline_s:
                self._count(-job.left)
        self._jobs = [job for job in self._jobs if not job.given_up and now_s <= job.deadline_s]
        same = [job for job in self._jobs if job.version is self._jobs[0].version]
        share, room = max(1, self._batch_size // max(1, len(same))), self._batch_size
        parts: dict[_Job, list[int]] = {}
        for limit in (share, self._batch_size):
            for job in same:
                size = min(limit, job.left, room)
                if size:
                    parts.setdefault(job, [job.taken, job.taken])[1] += size
                    job.taken, room = job.taken + size, room - size
                    job.started_s = job.started_s or now_s
        self._count(room - self._batch_size)
        self._jobs = [job for job in self._jobs if job.left]
        return [(job, start, end) for job, (start, end) in parts.items()]

    def _answer(self, parts: list[tuple[_Job, int, int]]) -> None:
        queries = [query for job, start, end in parts for query in job.queries[start:end]]
        started_s = time.monotonic()
        try:
            predictions = list(parts[0][0].version.predict(queries))
            if len(predictions) != len(queries):
                raise RuntimeError(f"{len(predictions)} predictions for {len(queries)} queries")
        except Exception as error:
            log.exception("%s: a batch of %d queries failed", self._model, len(queries))
            self._fail([job for job, _, _ in parts], error)
            return
        now_s = time.monotonic()
        if now_s > started_s:
            rate = len(queries) / (now_s - started_s)
            self._per_second = 0.8 * self._per_second + 0.2 * rate if self._per_second else rate
        telemetry.BATCH_SIZE.labels(model=self._model).observe(len(queries))
        at = 0
        for job, start, end in parts:
            job.found += predictions[at : at + end - start]
            at += end - start
            if len(job.found) == len(job.queries):
                done = Answered(job.found, job.started_s - job.queued_s, now_s - job.started_s)
                _deliver(job, done)

    def _fail(self, jobs: list[_Job], error: Exception) -> None:
        with self._changed:
            for job in jobs:
                self._count(-job.left if job in self._jobs else 0)
            self._jobs = [job for job in self._jobs if job not in jobs]
        for job in jobs:
            _deliver(job, error)


def _deliver(job: _Job, result: Answered | Exception) -> None:
    def set_result() -> None:
        if job.future.done():
            return
        if isinstance(result, Answered):
            job.future.set_result(result)
        else:
            job.future.set_exception(result)

    try:
        job.loop.call_soon_threadsafe(set_result)
    except RuntimeError:  # the loop is closed: the server ends
        log.debug("an answer came after the end of the server")
