"""The bulk path: reads a backlog with a plain consumer and writes it to the sink that the agent uses.

A Faust agent takes about 0.2 ms an event, a plain consumer a small part of that. So a role first reads what is on
the partitions that it owns, in offset order within each. It then commits where it ended, and its agent continues
from there. A message may be read on both paths; every sink drops the second delivery.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from schemas.cloudevents import EVENT_TIME, FETCH_TOTALS
from schemas.topics import EVENT_TOPICS
from streams.app.sink import ConsumedMessage, Sink
from transport.kafka import end_offset, read_ranges
from transport.topics import partitions_of

log = logging.getLogger(__name__)


def catch_up(
    sink: Sink,
    reader: KafkaConsumer,
    partitions: Sequence[TopicPartition],
    on_progress: Callable[[int], object] = lambda _count: None,
    goes_on: Callable[[], bool] = lambda: True,
) -> dict[TopicPartition, int]:
    """Write to `sink` all messages on the partitions that it does not have yet.

    Args:
        sink: Its `positions` say where reading starts.
        reader: A consumer without a group.
        partitions: The partitions; they are read at the same time.
        on_progress: Called after each write with the number of messages written.
        goes_on: Asked before each write; if it says no, reading ends.

    Returns:
        Partition -> the offset from which the agent must continue; if reading ended early, only of the
        partitions from which something was written.
    """
    ranges = {}
    for partition, position in sink.positions(partitions).items():
        end = end_offset(reader, *partition)
        ranges[partition] = (min(position, end), end)
    written, reached = 0, dict[TopicPartition, int]()
    for messages in read_ranges(reader, ranges):
        if not goes_on():
            log.info("reading in bulk ended after %d messages", written)
            return reached
        sink.write([from_kafka(message) for message in messages])
        written += len(messages)
        reached[TopicPartition(messages[-1].topic, messages[-1].partition)] = messages[-1].offset + 1
        on_progress(len(messages))
    if written:
        log.info("caught up with %d messages in bulk", written)
    return {partition: end for partition, (_, end) in ranges.items()}


def all_events(reader: KafkaConsumer) -> Iterator[list[ConsumedMessage]]:
    """All events up to the present ends of their topics, in lists that each are of one partition.

    Args:
        reader: A consumer without a group. It may be in use for another read, which goes on afterwards.
    """
    ends = {partition: end_offset(reader, *partition) for partition in partitions_of(reader, EVENT_TOPICS)}
    for messages in read_ranges(reader, {partition: (0, end) for partition, end in ends.items()}):
        yield [from_kafka(message) for message in messages]


def from_kafka(record: Any) -> ConsumedMessage:
    """A record of kafka-python as a message."""
    return ConsumedMessage(
        record.topic,
        record.partition,
        record.offset,
        record.value or b"",
        record.timestamp,
        *_attributes(record.headers),
    )


def from_faust(event: Any) -> ConsumedMessage:
    """A Faust event with a raw value as a message."""
    message = event.message
    headers = message.headers.items() if isinstance(message.headers, dict) else message.headers or ()
    return ConsumedMessage(
        message.topic,
        message.partition,
        message.offset,
        message.value or b"",
        int(message.timestamp * 1000),
        *_attributes(headers),
    )


def _attributes(headers: Iterable[tuple[str, bytes]]) -> tuple[bytes, bytes]:
    """The CloudEvents time, and the totals of the fetch; each is empty if it is missing."""
    found = dict(headers)
    return found.get(EVENT_TIME, b""), found.get(FETCH_TOTALS, b"")
