"""The bulk path: a backlog is read by plain consumers, through the same sinks as the agents use.

A Faust agent costs about 0.2 ms an event whatever it does; a plain consumer a small part of that. So at start a
role first reads what is there, in order of offset per partition, and then hands over to its agents by moving
its group's offsets to where it ended. Both sides may do an event twice: every sink drops the second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

from schemas.topics import Topic
from streams.app.sink import Message, Place, Sink
from transport.kafka import end_offset, kafka_errors, read_ranges

log = logging.getLogger(__name__)


def places_of(topics: Sequence[Topic]) -> tuple[Place, ...]:
    """Every partition of the topics."""
    return tuple((topic.name, partition) for topic in topics for partition in range(topic.partitions))


def catch_up(
    sink: Sink,
    reader: KafkaConsumer,
    places: Sequence[Place],
    on_taken: Callable[[int], object] = lambda _number: None,
) -> dict[Place, int]:
    """Give `sink` all that is on the topics now and has had no effect yet.

    Args:
        sink: Where the messages have their effect.
        reader: A consumer without a group.
        places: The partitions to read, side by side.
        on_taken: Told how many messages each step took.

    Returns:
        For each place the offset at which the agents go on.
    """
    spans = {}
    for place, start in sink.positions(places).items():
        end = end_offset(reader, *place)
        spans[place] = (min(start, end), end)
    taken = 0
    for messages in read_ranges(reader, spans):
        sink.take([from_kafka(message) for message in messages])
        taken += len(messages)
        on_taken(len(messages))
    if taken:
        log.info("caught up with %d messages in bulk", taken)
    return {place: end for place, (_, end) in spans.items()}


def from_kafka(record: Any) -> Message:
    """A kafka-python record as a message."""
    return Message(
        record.topic,
        record.partition,
        record.offset,
        record.value or b"",
        record.timestamp,
        _observed(record.headers),
    )


def from_faust(event: Any) -> Message:
    """A Faust event with a raw value as a message."""
    message = event.message
    headers = message.headers.items() if isinstance(message.headers, dict) else message.headers or ()
    return Message(
        message.topic,
        message.partition,
        message.offset,
        message.value or b"",
        int(message.timestamp * 1000),
        _observed(headers),
    )


def _observed(headers: Any) -> bytes:
    return next((value for name, value in headers if name == "ce_time"), b"")


def committed_offsets(admin: KafkaAdminClient, group: str) -> dict[Place, int]:
    """The offsets that a group committed; empty for a group that never was."""
    with kafka_errors(f"reading the offsets of {group}"):
        offsets = admin.list_group_offsets({group: None})[group]
    return {(place.topic, place.partition): meta.offset for place, meta in offsets.items() if meta.offset >= 0}


def hand_over(admin: KafkaAdminClient, group: str, ends: Mapping[Place, int]) -> None:
    """Move the group's offsets to where the bulk path ended; a group with members at work keeps its own."""
    offsets = {TopicPartition(*place): OffsetAndMetadata(end, "", -1) for place, end in ends.items()}
    with kafka_errors(f"moving the offsets of {group}"):
        answers = admin.alter_group_offsets(group, offsets).values()
    refused = {answer.__name__ for answer in answers if answer.errno}
    if refused:
        log.info("group %s keeps its offsets (%s): other workers are at it", group, ", ".join(sorted(refused)))
