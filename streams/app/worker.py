"""Runs the Faust worker of a role: its end at SIGTERM, and the timer that reports its lag."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import faust
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport

from streams import telemetry

log = logging.getLogger(__name__)


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


@contextlib.contextmanager
def exit_at_sigterm() -> Iterator[None]:
    """Leave the block at SIGTERM, with exit code 0. Errors that SIGTERM causes in the block are only logged."""
    stopping = threading.Event()

    def leave(_number: int, _frame: object) -> NoReturn:
        stopping.set()
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    except Exception:
        if not stopping.is_set():
            raise
        log.warning("an interrupted call failed after SIGTERM", exc_info=True)


def run_worker(app: faust.App) -> None:
    """Run a Faust app until it is stopped by a signal.

    Raises:
        SystemExit: The app crashed; the code is not 0. The process must end: the next start first repeats the
            batch that its agent had in hand, and nothing must be processed before it.
    """
    sigterm_handler = signal.getsignal(signal.SIGTERM)
    try:
        faust.Worker(app, loglevel=None, override_logging=False, quiet=True).execute_from_commandline()
    except SystemExit as end:
        if end.code:
            raise
    finally:
        signal.signal(signal.SIGTERM, sigterm_handler)  # Faust's own handler ended with its event loop


def add_lag_timer(app: faust.App, role: str, interval_s: float) -> None:
    """Set the lag gauge of a role every `interval_s` seconds while the app runs."""

    async def report_lag() -> None:
        with contextlib.suppress(KafkaError):  # the gauge keeps its value while a broker does not answer
            lag = await _lag(app)
            if lag is None:
                telemetry.LAG.clear()
            else:
                telemetry.LAG.labels(role=role).set(lag)

    app.timer(interval_s)(report_lag)


async def _lag(app: faust.App) -> int | None:
    """Messages after the committed offsets of the assigned partitions; None while no partition is assigned.

    The end offsets come from the broker: those that the consumer knows are out of date while Faust pauses it.
    """
    consumer: Any = app.consumer
    partitions = consumer.assignment() if consumer else set()
    if not partitions:
        return None
    ends = await consumer.highwaters(*partitions)
    lag = 0
    for partition, end in ends.items():
        lag += max(end - (consumer._committed_offset[partition] or 0), 0)
    return lag
