"""The history is cut into chunks with dates, and a chunk that was published in part is completed."""

from __future__ import annotations

from schemas.encoding import encode_event
from sx9_ml_models.demo.history import CHUNK_EVENTS, Chunk, chunks_of, publish_chunk, published_hashes
from tests.flow.events import group
from transport.kafka import consumer
from transport.topics import create_topics


def test_every_event_is_in_one_chunk_and_a_chunk_has_the_date_of_its_last_event() -> None:
    events = [encode_event(group(n, created_ms=n)) for n in range(1, CHUNK_EVENTS + 8)]  # type: ignore[arg-type]
    first, last = chunks_of(list(events))
    assert [*first.events, *last.events] == events
    assert (first.time_ms, last.time_ms) == (CHUNK_EVENTS, CHUNK_EVENTS + 7)
    assert chunks_of([]) == []


def test_only_events_that_are_not_on_the_topics_are_published(kafka_bootstrap: str) -> None:
    create_topics(kafka_bootstrap)
    events = tuple(encode_event(group(n, 1_700_000_000_000)) for n in range(7_000, 7_005))
    assert publish_chunk(Chunk(events[:2], 1), kafka_bootstrap, set()) == 2
    reader = consumer(kafka_bootstrap)
    published = published_hashes(reader)
    assert {encoded.content_hash for encoded in events[:2]} <= published
    assert publish_chunk(Chunk(events, 1), kafka_bootstrap, published) == 3
    assert publish_chunk(Chunk(events, 1), kafka_bootstrap, published_hashes(reader)) == 0
    reader.close()
