"""Runs the Faust worker of a role: its end at SIGTERM, and the timer that reports its lag."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import faust
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP
from kafka import TopicPartition

from schemas.errors import RetryLater
from streams import telemetry
from transport.health import Health
from transport.topics import TopicIds

log = logging.getLogger(__name__)


STOP_TIMEOUT_S = 10.0
"""Longest time from SIGTERM or a crash to the end of the process, seconds, whether or not services answer."""


class _ReadCommittedThread(AIOKafkaConsumerThread):
    """Faust's consumer thread, but it does not read messages of open and aborted transactions.

    Faust has no setting for this: it reads them unless its own guarantee is `exactly_once`.
    """

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        return consumer


class _ReadCommittedConsumer(Consumer):
    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _ReadCommittedThread(self, loop=self.loop, beacon=self.beacon)


class ReadCommittedTransport(Transport):
    """The transport of the apps: it reads what the consumers of `transport.kafka` read."""

    Consumer = _ReadCommittedConsumer


class Stop:
    """Whether this process was asked to stop. It ends within `STOP_TIMEOUT_S` after that, or after a crash."""

    def __init__(self) -> None:
        self._requested = threading.Event()

    @property
    def is_requested(self) -> bool:
        """Whether `request` was called."""
        return self._requested.is_set()

    def request(self) -> None:
        """Ask the process to stop. Later calls change nothing."""
        if not self._requested.is_set():
            self._requested.set()
            _end_in_time(0, "SIGTERM")

    def crashed(self) -> None:
        """Say that the process crashed and is about to end, with a code that is not 0."""
        if not self._requested.is_set():
            _end_in_time(1, "its crash")


def _end_in_time(code: int, since: str) -> None:
    """End the process after `STOP_TIMEOUT_S`, whatever its threads wait for. The next start goes on.

    Args:
        code: The exit code.
        since: What happened now, for the log.
    """

    def end() -> None:
        log.warning("not stopped %.0f s after %s: ending; the next start continues", STOP_TIMEOUT_S, since)
        faulthandler.dump_traceback()  # what the threads wait for
        logging.shutdown()
        os._exit(code)

    timer = threading.Timer(STOP_TIMEOUT_S, end)
    timer.daemon = True
    timer.start()


@contextlib.contextmanager
def exit_at_sigterm() -> Iterator[Stop]:
    """Leave the block at SIGTERM, with exit code 0. Errors that SIGTERM causes in the block are only logged."""
    stop = Stop()

    def leave(_number: int, _frame: object) -> NoReturn:
        stop.request()
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield stop
    except Exception:
        if not stop.is_requested:
            raise
        log.warning("an interrupted call failed after SIGTERM", exc_info=True)


class _Worker(faust.Worker):
    """A worker that starts completely before it stops.

    If SIGTERM comes while it starts, Faust would stop services that are half started, and wait for some that never
    start. An exception in a signal handler would do so in the middle of a step of the event loop.
    """

    def __init__(self, app: faust.App, stop: Stop, **settings: Any) -> None:
        super().__init__(app, **settings)
        self._stop_request = stop
        self._is_started = False

    def _on_sigterm(self) -> None:
        self._stop_request.request()
        if self._is_started:
            super()._on_sigterm()

    async def on_startup_finished(self) -> None:
        await super().on_startup_finished()
        self._is_started = True
        if self._stop_request.is_requested:
            super()._on_sigterm()

    def on_worker_shutdown(self) -> None:
        super().on_worker_shutdown()
        if self.crashed:
            self._stop_request.crashed()


def run_worker(app: faust.App, stop: Stop) -> None:
    """Run a Faust app until it is stopped by a signal.

    Args:
        app: The app.
        stop: Is requested at SIGTERM.

    Raises:
        SystemExit: The app crashed; the code is not 0. The process must end: the next start first repeats the
            batch that its agent had in hand, and nothing must be processed before it.
    """
    # Until the event loop of Faust has a handler of its own; an exception would leave the loop half started.
    sigterm_handler = signal.signal(signal.SIGTERM, lambda _number, _frame: stop.request())
    try:
        worker = _Worker(app, stop, loglevel=None, override_logging=False, quiet=True)
        worker.spinner = None  # at its end it writes a control code, also where the output is a file
        worker.execute_from_commandline()
    except SystemExit as end:
        if end.code:
            raise
    finally:
        signal.signal(signal.SIGTERM, sigterm_handler)  # Faust's own handler ended with its event loop


def add_lag_timer(
    app: faust.App,
    role: str,
    partitions: Sequence[TopicPartition],
    committed: Callable[[], Mapping[TopicPartition, int]],
    interval_s: float,
) -> None:
    """Set the lag gauges of a role every `interval_s` seconds while the app runs.

    Args:
        app: The app of the role.
        role: Its name.
        partitions: All that the role has to read, whether or not this worker or another one reads them now.
        committed: The committed offsets of the role's group; may raise `RetryLater`.
        interval_s: Seconds.
    """

    async def report_lag() -> None:
        with contextlib.suppress(KafkaError, RetryLater):  # the gauges keep their values while no broker answers
            for partition, lag in (await _lag(app, partitions, committed)).items():
                telemetry.LAG.labels(role=role, topic=partition.topic, partition=partition.partition).set(lag)

    app.timer(interval_s)(report_lag)


def add_topics_timer(app: faust.App, topics: TopicIds, interval_s: float) -> None:
    """Crash a Faust app within `interval_s` seconds after one of its topics was deleted or made again.

    Its consumer would go on at its offset in the new topic, and pass over what is before it.
    """

    async def check_topics() -> None:
        with contextlib.suppress(RetryLater):
            await asyncio.to_thread(topics.check)

    app.timer(interval_s)(check_topics)


def add_health_timer(app: faust.App, health: Health, interval_s: float) -> None:
    """Let a Faust app be ready once it has started, and say at each interval that its event loop goes round."""

    async def beat() -> None:
        health.set_ready()

    app.timer(interval_s)(beat)


async def _lag(
    app: faust.App,
    partitions: Sequence[TopicPartition],
    committed: Callable[[], Mapping[TopicPartition, int]],
) -> dict[TopicPartition, int]:
    """Messages after the committed offsets of the role's group.

    The end offsets come from the broker: those that the consumer knows are out of date while Faust pauses it.
    """
    consumer: Any = app.consumer
    if not consumer:
        return {}
    offsets = await asyncio.to_thread(committed)
    ends = await consumer.highwaters(*(TP(*partition) for partition in partitions))
    return {partition: max(ends[partition] - offsets.get(partition, 0), 0) for partition in partitions}
