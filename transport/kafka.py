"""Kafka producers and consumers with the settings that every process uses, and reads of offset ranges.

RecordProducer(producer(bootstrap)).send(...)  ──> flush() ──> acknowledged by all in-sync replicas, in order
read_range(consumer(bootstrap), topic, partition, start, end)  ──> batches of messages, in offset order
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError, RecordListTooLargeError

from schemas.cloudevents import Headers
from schemas.codec import MAX_RECORD_BYTES, encode_message
from schemas.errors import BadConfiguration, Corrupt, RestartRequired, RetryLater
from transport.kafka_login import client_settings

MESSAGE_BYTES = 1_048_588
"""Kafka's default of `max.message.bytes`: a record of `MAX_RECORD_BYTES` fits, with its key and headers."""

MAX_POLL_RECORDS = 2_000
"""Largest number of messages that one poll returns."""

READ_TIMEOUT_S = 60.0
"""Longest time without progress before reading a range fails, seconds."""

FLUSH_TIMEOUT_S = 60.0
"""Longest wait for acknowledgements, seconds."""

NO_DELIVERY_TIMEOUT_MS = 2**31 - 1
"""For `delivery_timeout_ms`: records never expire, so the producer leaves no gap in a partition."""

PRODUCER: dict[str, Any] = {
    "acks": "all",
    "enable_idempotence": True,
    "compression_type": "zstd",
    "linger_ms": 20,
    "batch_size": 131_072,
    "allow_auto_create_topics": False,
    "metrics_enabled": False,
}
CONSUMER: dict[str, Any] = {
    "auto_offset_reset": "earliest",
    "isolation_level": "read_committed",
    "enable_auto_commit": False,
    "allow_auto_create_topics": False,
    "max_poll_records": MAX_POLL_RECORDS,
    "max_partition_fetch_bytes": 8 * 1024 * 1024,
    "metrics_enabled": False,
}


@contextlib.contextmanager
def kafka_errors(doing: str) -> Iterator[None]:
    """Map errors of the Kafka client to ours, by whether Kafka calls them retriable.

    Args:
        doing: What the block does, for the message: `reading the offsets of sx9-fold`.

    Raises:
        RetryLater: The client raised a retriable error in the block.
        RestartRequired: It raised another one. A producer stays in its fatal state: only a new one can send.
        BadConfiguration: The broker accepts no message of this size.
    """
    try:
        yield
    except KafkaError as error:
        raise error_of(error, doing) from error


def error_of(error: KafkaError, doing: str) -> Exception:
    """The error of ours for one of the Kafka client; see `kafka_errors`."""
    if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
        return BadConfiguration(
            f"Kafka refused a message while {doing}: {error}; records have up to {MAX_RECORD_BYTES} bytes: set "
            f"max.message.bytes of the topic, or message.max.bytes of the broker, to at least {MESSAGE_BYTES}"
        )
    failure = f"{type(error).__name__}: {error}"
    if error.retriable:
        return RetryLater(
            f"Kafka did not answer while {doing}: {failure}; check that it runs (`sx9 status`) and try again"
        )
    return RestartRequired(
        f"Kafka failed while {doing}: {failure}; it does not help to wait: this process has to be started again"
    )


def producer(bootstrap: str, **settings: Any) -> KafkaProducer:
    """An idempotent producer that waits for all in-sync replicas; the caller closes it.

    Args:
        bootstrap: host:port of the broker.
        settings: Further arguments of `KafkaProducer`; they override `PRODUCER`.

    Raises:
        RetryLater: No broker answers.
    """
    with kafka_errors(f"connecting to {bootstrap}"):
        return KafkaProducer(bootstrap_servers=bootstrap, **(PRODUCER | client_settings(bootstrap) | settings))


class RecordProducer:
    """Encodes and sends records; `flush` waits until the broker has acknowledged them.

    Args:
        producer: From `producer()`.
    """

    def __init__(self, producer: KafkaProducer) -> None:
        self._producer = producer
        self._futures: list[Any] = []

    def send(
        self,
        topic: str,
        record: msgspec.Struct,
        *,
        key: str,
        partition: int | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Queue one record.

        Args:
            topic: Name of the topic.
            record: The record; it is encoded here.
            key: The message key.
            partition: Number of the partition; None: chosen by the hash of the key.
            headers: Headers of the message; None: no headers.

        Raises:
            BadRecord: `too-large`: the record does not fit a message, now or later.
            RetryLater, RestartRequired, BadConfiguration: See `kafka_errors`.
        """
        value = encode_message(record)
        try:  # not `kafka_errors`: a context manager for each record is slow
            future = self._producer.send(topic, key=key.encode(), value=value, partition=partition, headers=headers)
        except KafkaError as error:
            raise error_of(error, f"sending to {topic}") from error
        self._futures.append(future)

    def flush(self) -> None:
        """Wait until the broker has acknowledged all records that were sent.

        Records without an answer are still on their way, and the next `flush` waits for them too. Those that the
        broker refused are forgotten.

        Raises:
            RetryLater: Not all were answered within `FLUSH_TIMEOUT_S`, or the producer gave up on one.
            RestartRequired, BadConfiguration: One was refused; see `kafka_errors`.
        """
        deadline_s = time.monotonic() + FLUSH_TIMEOUT_S
        with kafka_errors("waiting for acknowledgements"):
            with contextlib.suppress(KafkaError):  # the futures say which records failed or are on their way
                self._producer.flush(timeout=FLUSH_TIMEOUT_S)
            for future in self._futures:
                if not future.is_done:  # its batch was split, or the flush ended too early
                    with contextlib.suppress(KafkaError):
                        future.get(timeout=max(deadline_s - time.monotonic(), 0.0))
            pending = [future for future in self._futures if not future.is_done]
            failed = [future for future in self._futures if future.failed()]
            self._futures = pending
            if failed:
                raise failed[0].exception
            if pending:
                raise KafkaTimeoutError(f"{len(pending)} records have no answer after {FLUSH_TIMEOUT_S:.0f} s")


class RangeArchive(Protocol):
    """What a topic had before its retention deleted it: see `transport.archive.reading.Archive`."""

    url: str

    def covered(self, topic: str, number: int) -> tuple[int, int]:
        """The half-open range of offsets that it has of a partition."""

    def read(self, topic: str, number: int, start: int, end: int) -> Iterator[Sequence[Any]]:
        """The records with offsets in `[start, end)`, in order, in batches."""


class ArchivedConsumer(KafkaConsumer):  # type: ignore[misc]
    """A consumer with an archive, from which ranges are read that the topics no longer have.

    Attributes:
        archive: None: there is none.
    """

    archive: RangeArchive | None = None


def consumer(bootstrap: str, archive: RangeArchive | None = None, /, **settings: Any) -> KafkaConsumer:
    """A consumer that commits only explicitly; the caller closes it.

    Args:
        bootstrap: host:port of the broker.
        archive: Where `read_range` and `read_ranges` find what the topics no longer have.
        settings: Further arguments of `KafkaConsumer`; they override `CONSUMER`. Without `group_id` the consumer
            belongs to no group.

    Raises:
        RetryLater: No broker answers.
    """
    with kafka_errors(f"connecting to {bootstrap}"):
        made = ArchivedConsumer(bootstrap_servers=bootstrap, **(CONSUMER | client_settings(bootstrap) | settings))
    made.archive = archive
    return made


def end_offset(reader: KafkaConsumer, topic: str, partition: int) -> int:
    """The offset after the last message of a partition that a consumer may read.

    Messages of a transaction that is still open, and those after them, are not counted.

    Raises:
        RetryLater: The broker does not answer.
    """
    topic_partition = TopicPartition(topic, partition)
    with kafka_errors(f"reading the end offset of {topic}/{partition}"):
        return int(reader.end_offsets([topic_partition])[topic_partition])


def end_offsets(reader: KafkaConsumer, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """The end offset of each of several partitions, in one request where that is possible; see `end_offset`.

    Raises:
        RetryLater: The broker does not answer.
    """
    with kafka_errors("reading end offsets"):
        try:
            return dict(reader.end_offsets(list(partitions)))
        except KeyError:  # kafka-python 3.0: it does not know the leader of one of them yet
            return {partition: end_offset(reader, *partition) for partition in partitions}


def first_offset(reader: KafkaConsumer, topic: str, partition: int) -> int:
    """The offset of the first message that a partition still has.

    It is asked for one partition at a time, as in `end_offset`: if kafka-python 3.0 does not know the leader of one
    of several partitions yet, it answers with a KeyError.

    Raises:
        RetryLater: The broker does not answer.
    """
    topic_partition = TopicPartition(topic, partition)
    with kafka_errors(f"reading the first offset of {topic}/{partition}"):
        return int(reader.beginning_offsets([topic_partition])[topic_partition])


def read_range(
    reader: KafkaConsumer, topic: str, partition: int, start: int, end: int | None = None
) -> Iterator[list[Any]]:
    """Read the half-open range of offsets `[start, end)` of one partition.

    Args:
        reader: A consumer without a group; its assignment is replaced.
        topic: Name of the topic.
        partition: Its number.
        start: First offset.
        end: End offset, exclusive; None: the current end of the partition.

    Yields:
        Lists of messages in offset order; nothing if the range is empty. They are kafka-python's records
        (`.offset`, `.key`, `.value`, `.headers`, `.timestamp`).

    Raises:
        Corrupt: The partition begins after `start`: retention deleted records that are needed, and the archive does
            not have them, or is damaged.
        RetryLater: The broker sent nothing for `READ_TIMEOUT_S`.
    """
    end = end_offset(reader, topic, partition) if end is None else end
    yield from read_ranges(reader, {TopicPartition(topic, partition): (start, end)})


def read_ranges(reader: KafkaConsumer, ranges: Mapping[TopicPartition, tuple[int, int]]) -> Iterator[list[Any]]:
    """Read a half-open range of offsets from each of several partitions at once; see `read_range`.

    What retention has deleted is read from the archive of the reader, if it has one: first, partition by partition.
    Progress is the position of the consumer, not the messages: the offsets of transaction markers, and of messages
    that were aborted or removed by compaction, belong to the range, but no message has them.

    Args:
        reader: A consumer without a group; its assignment is replaced.
        ranges: Partition -> (start, end), the end exclusive.

    Yields:
        Lists of messages in offset order, each from one partition.
    """
    remaining = {partition: (start, end) for partition, (start, end) in ranges.items() if start < end}
    for partition, (start, end) in list(remaining.items()):
        left = yield from _archived(reader, partition, start, end)
        remaining[partition] = (left, end)
    remaining = {partition: (start, end) for partition, (start, end) in remaining.items() if start < end}
    if not remaining:
        return
    with kafka_errors(f"reading {', '.join(f'{p.topic}/{p.partition}' for p in remaining)}"):
        _seek(reader, remaining)
        positions = {partition: start for partition, (start, _) in remaining.items()}
        progress_s = time.monotonic()
        while remaining:
            _assign(reader, positions)
            polled = reader.poll(timeout_ms=1_000)
            found = {partition: reader.position(partition) for partition in remaining}
            for partition, messages in polled.items():
                end = remaining[partition][1]
                if messages[0].offset < positions[partition]:
                    raise RetryLater(f"{partition} was cut off or made again while it was read: read it again")
                wanted = messages if messages[-1].offset < end else [m for m in messages if m.offset < end]
                if wanted:
                    yield wanted
            if found != positions:
                progress_s = time.monotonic()
            elif time.monotonic() - progress_s > READ_TIMEOUT_S:
                raise RetryLater(
                    f"no progress within {READ_TIMEOUT_S:.0f} s in {remaining}; check the broker and try again"
                )
            remaining = {p: offsets for p, offsets in remaining.items() if found[p] < offsets[1]}
            positions = {p: found[p] for p in remaining}


def _archived(
    reader: KafkaConsumer, partition: TopicPartition, start: int, end: int
) -> Generator[list[Any], None, int]:
    """Yield what a partition no longer has, from the archive of the reader; return where the partition goes on."""
    archive: RangeArchive | None = getattr(reader, "archive", None)
    while archive is not None and start < end and (first := first_offset(reader, *partition)) > start:
        stop = min(first, end)
        begins, ends = archive.covered(partition.topic, partition.partition)
        if start < begins or ends < stop:
            raise Corrupt(
                f"{partition.topic}/{partition.partition} begins at offset {first}, but offset {start} is needed: "
                f"older records were deleted (retention), and the archive {archive.url} has "
                f"{f'only offsets {begins} to {ends}' if begins < ends else 'none of them'}: name the archive that "
                "has them with SX9_ARCHIVE_URL"
            )
        for records in archive.read(partition.topic, partition.partition, start, stop):
            yield list(records)
        start = stop
    return start


def _assign(reader: KafkaConsumer, positions: Mapping[TopicPartition, int]) -> None:
    """Assign the partitions at their positions, unless the reader is there.

    A finished partition is dropped by a new assignment, not by `pause`: see docs/decisions. Between two batches the
    reader may have been used for another read.
    """
    if reader.assignment() != positions.keys():
        reader.assign(list(positions))
        moved = list(positions)
    else:
        moved = [partition for partition, position in positions.items() if reader.position(partition) != position]
    for partition in moved:
        reader.seek(partition, positions[partition])


def _seek(reader: KafkaConsumer, ranges: Mapping[TopicPartition, tuple[int, int]]) -> None:
    """Assign the partitions, each at the start of its range."""
    reader.assign(list(ranges))
    for partition, (start, _) in ranges.items():
        first = first_offset(reader, *partition)
        if first > start:
            raise Corrupt(
                f"{partition.topic}/{partition.partition} begins at offset {first}, but offset {start} is needed: "
                "older records were deleted (retention); name their archive with SX9_ARCHIVE_URL, if there is one"
            )
        reader.seek(partition, start)
