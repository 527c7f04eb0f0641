"""The seam between reading messages and their effect: agents and the bulk path both write to a `Sink`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec
from kafka import TopicPartition


class ConsumedMessage(msgspec.Struct, frozen=True, gc=False):
    """One message read from a topic.

    Attributes:
        topic: Name of the topic.
        partition: Number of the partition.
        offset: Its offset.
        value: The undecoded value; empty if the message has none.
        timestamp_ms: The broker's time, ms since 1970 UTC.
        observed: The `ce_time` header, undecoded; empty if there is none.
        fetch: The header with the totals of the fetch, undecoded; empty if there is none.
    """

    topic: str
    partition: int
    offset: int
    value: bytes
    timestamp_ms: int
    observed: bytes = b""
    fetch: bytes = b""

    @property
    def topic_partition(self) -> TopicPartition:
        """The partition that the message was read from."""
        return TopicPartition(self.topic, self.partition)


class Sink(Protocol):
    """A destination of messages."""

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Prepare for the partitions that this worker has from now on, and give up all others.

        Another worker may have written what came from them before.

        Raises:
            RetryLater: The destination did not answer; call it again.
        """

    def positions(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """For each partition the first offset that is not written yet, as the destination itself says."""

    def write(self, messages: Sequence[ConsumedMessage]) -> None:
        """Write messages durably before returning. Messages that were written before change nothing.

        Raises:
            RetryLater: The destination did not answer; write the same messages again.
        """
