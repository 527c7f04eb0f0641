"""One partition of a topic as a log that is read by offset: the seam between Kafka and what is kept of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from kafka import KafkaConsumer

from schemas.topics import Topic
from transport.kafka import end_offset, read_range


class Message(Protocol):
    """A record as it lies in a log; `timestamp` is ms since 1970."""

    offset: int
    timestamp: int
    value: bytes


class Log(Protocol):
    """Records by offset."""

    def end(self) -> int:
        """The offset that the next record will get."""

    def read(self, start: int, end: int) -> Iterator[Sequence[Message]]:
        """The records of the offsets `[start, end)`, in order, in batches."""


class TopicLog:
    """A partition read by a consumer without a group."""

    def __init__(self, reader: KafkaConsumer, topic: Topic, partition: int) -> None:
        self._reader = reader
        self._topic = topic.name
        self._partition = partition

    def end(self) -> int:
        """See `Log.end`."""
        return end_offset(self._reader, self._topic, self._partition)

    def read(self, start: int, end: int) -> Iterator[list[Any]]:
        """See `Log.read` and `transport.kafka.bulk`."""
        return read_range(self._reader, self._topic, self._partition, start, end)
