"""`sx9 export`: what the feeds said, or the graph of it, as files; from the topics, or from sources directly."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer

from schemas.codec import decode
from schemas.errors import BadConfiguration, BadRecord
from schemas.events import Event
from schemas.topics import EVENT_TOPICS
from streams.app.catch_up import places_of
from streams.content.events_folder import write_events
from streams.content.graph_export import write_ontology
from streams.core.ontology import ontology
from streams.fetchers.base.feed import RejectedItem
from streams.fetchers.base.runner import parse_events
from streams.fetchers.feeds.registry import feed_named
from streams.settings import Settings
from sx9_ml_models.fetching import progress_of
from transport.kafka import end_offset, read_ranges


def named_sources(words: Sequence[str]) -> dict[str, str | None]:
    """Feed -> where it is read from, None for its own source, of `FEED=PATH` and `FEED`.

    Raises:
        BadConfiguration: There is no such feed, or it is named twice.
    """
    found: dict[str, str | None] = {}
    for word in words:
        feed, _, source = word.partition("=")
        feed_named(feed)
        if feed in found:
            raise BadConfiguration(f"--source names {feed} twice: one source for each feed")
        found[feed] = source or None
    return found


def events_of(sources: Mapping[str, str | None], settings: Settings, rejected: Counter[str]) -> Iterator[Event]:
    """All events of sources, feed by feed; what can't be used is counted.

    Raises:
        BadConfiguration, BadRecord, RetryLater: A source as a whole can't be read or used.
    """
    for feed, source in sources.items():
        with progress_of(feed) as on_progress:
            for outcome in parse_events(feed, source, settings, on_progress=on_progress):
                if isinstance(outcome, RejectedItem):
                    rejected[outcome.error.reason] += 1
                else:
                    yield outcome.event


def events_on_topics(reader: KafkaConsumer, rejected: Counter[str]) -> Iterator[Event]:
    """All events on the topics, those of one id in their order; what doesn't decode is counted."""
    spans = {place: (0, end_offset(reader, *place)) for place in places_of(EVENT_TOPICS)}
    for messages in read_ranges(reader, spans):
        for message in messages:
            try:
                yield decode(message.value or b"", Event)
            except BadRecord as error:
                rejected[error.reason] += 1


def export_ontology(events: Iterable[Event], output: Path) -> dict[str, Any]:
    """Write the threat graph; what was written, for people and for JSON."""
    found = ontology(events)
    write_ontology(output, found)
    return {"output": str(output), "nodes": len(found.nodes), "edges": len(found.edges)}


def export_content(events: Iterable[Event], output: Path) -> dict[str, Any]:
    """Write the events; what was written, for people and for JSON."""
    return {"output": str(output)} | write_events(output, events)


def tell_rejected(rejected: Counter[str]) -> None:
    """Say on stderr what could not be used, if anything."""
    if rejected:
        reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(rejected.items()))
        print(f"sx9: left out what can't be used: {reasons}", file=sys.stderr)
