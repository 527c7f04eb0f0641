"""One partition of a topic as a log that is read by offset, and how to recognise it again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from kafka import KafkaConsumer

from schemas.topics import Topic
from transport.kafka import end_offset, read_range
from transport.records import ConsumerRecord, decoded


class PartitionLog(Protocol):
    """Messages by offset."""

    topic: str
    partition: int

    def end(self) -> int:
        """See `transport.kafka.end_offset`."""

    def read(self, start: int, end: int) -> Iterator[Sequence[ConsumerRecord]]:
        """The messages with offsets in `[start, end)`, in order, in batches."""


class KafkaPartitionLog:
    """A partition of a Kafka topic.

    Args:
        reader: A consumer without a group; its assignment is replaced at each read.
        topic: The topic.
        partition: Its number.
    """

    def __init__(self, reader: KafkaConsumer, topic: Topic, partition: int) -> None:
        self._reader = reader
        self.topic = topic.name
        self.partition = partition

    def end(self) -> int:
        """See `PartitionLog.end`."""
        return end_offset(self._reader, self.topic, self.partition)

    def read(self, start: int, end: int) -> Iterator[list[Any]]:
        """See `PartitionLog.read` and `transport.kafka.read_range`."""
        return read_range(self._reader, self.topic, self.partition, start, end)


def fingerprint(message: ConsumerRecord) -> str:
    """32 hex digits that identify a message: the same bytes written at another time have another fingerprint."""
    stamp = f"{message.offset}:{message.timestamp}:".encode()
    return hashlib.blake2b(stamp + (message.value or b""), digest_size=16).hexdigest()


def last_fingerprint(log: PartitionLog, next_offset: int) -> str:
    """The fingerprint of the message before `next_offset`; empty where the log has none.

    Whoever keeps a position in a log keeps this beside it. If it differs later, the topic was deleted and created
    again, and the position means nothing.
    """
    if not 0 < next_offset <= log.end():
        return ""
    last = [message for messages in log.read(next_offset - 1, next_offset) for message in messages]
    return fingerprint(last[-1]) if last else ""


def records_between(log: PartitionLog, record_type: Any, start: int, end: int) -> Iterator[tuple[Any, Any]]:
    """(message, record) of the records of a log with offsets in `[start, end)`; see `transport.records.decoded`."""
    for messages in log.read(start, end):
        yield from decoded(messages, record_type, log.topic, log.partition)


def last_record(log: PartitionLog, record_type: Any) -> tuple[Any, Any] | None:
    """(message, record) of the last record of a log; None if it has none. Messages without one are passed over."""
    end = log.end()
    length = 1
    while end > 0:
        start = max(end - length, 0)
        records = list(records_between(log, record_type, start, end))
        if records:
            return records[-1]
        end, length = start, length * 10
    return None
