"""Which partitions a worker owns: it reads the backlog of these in bulk, and writes what comes from no others.

    assigned ──> backlog in bulk ──> group offsets ──> owned: the agent goes on from there
    revoked  ──> owned no more ──> what is being written is finished ──> the next owner begins

Kafka gives each partition to one worker of a role. Faust holds the agent still until the receivers of its signal
`on_rebalance_complete` have returned, and sends heartbeats meanwhile. So a backlog may take long, and another
worker may join before it is read: then reading ends after the batch in hand, and the next owner goes on there.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import faust
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]
from faust.transport.drivers.aiokafka import ensure_aiokafka_TP
from faust.types import TP
from kafka import KafkaConsumer, TopicPartition

from schemas.errors import RetryLater
from streams import telemetry
from streams.app.catch_up import catch_up
from streams.app.sink import ConsumedMessage, Sink
from streams.app.worker import Stop

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses between attempts, seconds. The last one repeats without limit: no message is skipped."""
FINISH_S = 20.0
"""Longest wait for the batch in hand when partitions are revoked, seconds. Kafka waits for a minute."""
COMMIT_S = 10.0
"""Longest wait for a commit, seconds."""


class Ownership:
    """What one worker owns, and its only way to the sink. Its methods may be called from any thread.

    Args:
        sink: Of the role.
        reader: A consumer without a group, that nothing else uses.
        role: Its name.
        stop: Once it is requested, no backlog is read any more.
        on_owned: Called when partitions have been taken over, while nothing is written.
    """

    def __init__(
        self,
        sink: Sink,
        reader: KafkaConsumer,
        role: str,
        stop: Stop,
        on_owned: Callable[[frozenset[TopicPartition]], object] = lambda _partitions: None,
    ) -> None:
        self._sink = sink
        self._reader = reader
        self._role = role
        self._stop = stop
        self._on_owned = on_owned
        self._lock = threading.Lock()
        self._epoch = 0
        self._taken: tuple[int, frozenset[TopicPartition]] = (-1, frozenset())

    @property
    def epoch(self) -> int:
        """How often partitions were revoked."""
        return self._epoch

    @property
    def partitions(self) -> frozenset[TopicPartition]:
        """The partitions that this worker owns now."""
        epoch, partitions = self._taken
        return partitions if epoch == self._epoch else frozenset()

    def write(self, messages: Sequence[ConsumedMessage]) -> frozenset[TopicPartition]:
        """Write the messages of the partitions that this worker owns.

        Returns:
            The partitions that it owns. Messages of others must not be acknowledged: their owner reads them.

        Raises:
            RetryLater: See `Sink.write`.
        """
        with self._lock:
            owned = self.partitions
            if mine := [message for message in messages if message.topic_partition in owned]:
                self._sink.write(mine)
            return owned

    def between_writes(self, task: Callable[[], object]) -> None:
        """Call a function of the sink while nothing is written, if this worker owns anything."""
        with self._lock:
            if self.partitions:
                task()

    def take_over(self, partitions: frozenset[TopicPartition], epoch: int) -> Mapping[TopicPartition, int]:
        """Bring the sink to the end of some partitions, and own them from then on.

        Args:
            partitions: All that are assigned to this worker.
            epoch: The epoch in which they were; when it ends, reading ends and they are not owned.

        Returns:
            Partition -> the offset from which its owner must continue.

        Raises:
            RetryLater: Kafka, or what the sink writes to, does not answer.
        """

        def goes_on() -> bool:
            return epoch == self._epoch and not self._stop.is_requested

        with self._lock:
            if not goes_on():
                return {}
            self._sink.assigned(partitions)
            count_processed = telemetry.MESSAGES_PROCESSED.labels(role=self._role).inc
            offsets = catch_up(self._sink, self._reader, sorted(partitions), count_processed, goes_on)
            if goes_on():
                self._on_owned(partitions)
                self._taken = (epoch, partitions)
            return offsets

    def revoke(self) -> None:
        """Own nothing any more; returns when what is being written is finished, or after `FINISH_S`."""
        self._epoch += 1
        if self._lock.acquire(timeout=FINISH_S):
            self._lock.release()
        else:
            log.warning(
                "%s: %.0f s after its partitions were revoked a batch is still being written: what it writes may "
                "come twice, and readers drop the second one",
                self._role, FINISH_S,
            )  # fmt: skip


def follow_rebalances(app: faust.App, ownership: Ownership, role: str, topics: Sequence[str]) -> None:
    """Let a worker own what is assigned to it in the group of a Faust app.

    Args:
        app: The app of the role, not started yet.
        ownership: Of this worker.
        role: Its name, for the log.
        topics: That it reads.
    """
    assigned: frozenset[TopicPartition] = frozenset()
    is_assigned = asyncio.Event()

    async def on_assigned(_app: Any, partitions: Any, **_: Any) -> None:
        nonlocal assigned
        assigned = frozenset(TopicPartition(p.topic, p.partition) for p in partitions if p.topic in topics)
        is_assigned.set()

    async def on_revoked(*_: Any, **__: Any) -> None:
        is_assigned.clear()
        await asyncio.to_thread(ownership.revoke)

    async def on_complete(*_: Any, **__: Any) -> None:
        await is_assigned.wait()
        epoch = ownership.epoch
        offsets = await until_done(lambda: ownership.take_over(assigned, epoch), role)
        await _commit(app, offsets)
        if ownership.partitions == assigned:
            log.info("%s: live, with %d partitions", role, len(assigned))

    app.on_partitions_assigned.connect(on_assigned)  # type: ignore[arg-type]
    app.on_partitions_revoked.connect(on_revoked)
    app.on_before_shutdown.connect(on_revoked)
    app.on_rebalance_complete.connect(on_complete)


def confirm_owner(app: Any, partition: TopicPartition, offset: int) -> None:
    """Make sure, in a thread, that Kafka still counts this worker as the owner of a partition: commit an offset.

    A commit names the generation of the group, and Kafka refuses that of a former one. So a worker that hung for
    longer than its session learns that it owns the partition no more.

    Raises:
        RetryLater: It may not be the owner, or Kafka does not answer.
    """
    thread = app.consumer._thread
    commit = thread._ensure_consumer().commit({ensure_aiokafka_TP(TP(*partition)): offset})
    committed = asyncio.run_coroutine_threadsafe(commit, thread.thread_loop)
    try:
        committed.result(COMMIT_S)
    except (KafkaError, TimeoutError) as error:
        committed.cancel()
        raise RetryLater(
            f"{partition.topic}/{partition.partition} may belong to another worker ({error!r})"
        ) from error


async def until_done(call: Callable[[], T], role: str) -> T:
    """Call a function in a thread, again while it raises `RetryLater`; other errors end it."""
    for attempt in itertools.count():
        try:
            return await asyncio.to_thread(call)
        except RetryLater as error:
            pause_s = RETRY_PAUSES_S[min(attempt, len(RETRY_PAUSES_S) - 1)]
            telemetry.RETRIES.labels(role=role).inc()
            log.warning("%s: %s; next attempt in %.0f s", role, error, pause_s)
            await asyncio.sleep(pause_s)
    raise AssertionError("the loop has no end")


async def _commit(app: Any, offsets: Mapping[TopicPartition, int]) -> None:
    """Commit offsets as a member of the group; Faust goes on there.

    Without it the agent gets messages again, and the sink drops them.
    """
    found = {ensure_aiokafka_TP(TP(*partition)): offset for partition, offset in offsets.items() if offset}
    if not found:
        return
    thread = app.consumer._thread
    commit = thread._ensure_consumer().commit
    try:
        await asyncio.wait_for(asyncio.shield(thread.call_thread(commit, found)), COMMIT_S)
    except (KafkaError, TimeoutError) as error:
        log.info("the offsets where the backlog ended were not committed (%r)", error)
