"""Publishes events and dead letters; only what the broker has acknowledged counts as published.

(encoded event, time) ──> key, value, CloudEvents headers ──idempotent producer──> all replicas ──> acknowledged
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kafka import KafkaProducer
from kafka.errors import KafkaError

from schemas import cloudevents
from schemas.codec import encode
from schemas.dead_letters import dead_letter_message
from schemas.encoding import EncodedEvent
from schemas.errors import RetryLater
from schemas.topics import DEAD_LETTERS, topic_of
from streams.fetchers.base.feed import OnProgress, RejectedItem
from transport import kafka as wire

ACKNOWLEDGED_S = 150.0
"""Longest wait for the last acknowledgement, seconds; the producer gives up on a record after 120 s."""
CLOSE_S = 2.0
_REPORT_EVERY = 500


class OutgoingMessage(NamedTuple):
    """A message that is ready to be sent."""

    topic: str
    key: str
    value: bytes
    headers: cloudevents.Headers


def event_headers(encoded: EncodedEvent, observed_ms: int) -> cloudevents.Headers:
    """The CloudEvents headers of an event; `observed_ms` is when the feed was read, ms since 1970 UTC."""
    event = encoded.event
    event_type = f"threat.{type(event).__name__.lower()}.v1"
    return cloudevents.headers(encoded.content_hash, event_type, cloudevents.source_of(event.feed), observed_ms)


def outgoing_event(encoded: EncodedEvent, observed_ms: int) -> OutgoingMessage:
    """The message of an event; `observed_ms` is when the feed was read, ms since 1970 UTC."""
    event = encoded.event
    return OutgoingMessage(topic_of(event).name, event.id, encoded.value, event_headers(encoded, observed_ms))


def outgoing_dead_letter(rejected: RejectedItem, feed: str, observed_ms: int) -> OutgoingMessage:
    """The message of a rejected item; its `ce_id` is the digest of the item."""
    record, headers = dead_letter_message(
        rejected.origin,
        rejected.error,
        rejected.payload,
        source=cloudevents.source_of(feed),
        time_ms=observed_ms,
        payload_bytes=rejected.payload_bytes,
        digest=rejected.digest,
    )
    return OutgoingMessage(DEAD_LETTERS.name, record.origin, encode(record), headers)


def publish(bootstrap: str, messages: Sequence[OutgoingMessage], on_progress: OnProgress) -> None:
    """Send messages in their order and wait until the broker has acknowledged all of them.

    Args:
        bootstrap: host:port of Kafka.
        messages: The messages.
        on_progress: Called with the stage `publish`.

    Raises:
        RetryLater: Not every message was acknowledged; those that were are on their topics.
    """
    with wire.kafka_errors("publishing"), _closing_producer(bootstrap) as producer:
        futures = []
        for sent, message in enumerate(messages, 1):
            futures.append(
                producer.send(message.topic, key=message.key.encode(), value=message.value, headers=message.headers)
            )
            if sent % _REPORT_EVERY == 0:
                on_progress("publish", sent, len(messages))
        producer.flush(timeout=ACKNOWLEDGED_S)
        _check([future.exception for future in futures if not future.succeeded()], len(messages))
    on_progress("publish", len(messages), len(messages))


@contextlib.contextmanager
def _closing_producer(bootstrap: str) -> Iterator[KafkaProducer]:
    """A producer that is closed with a short timeout: what matters was flushed or has failed by then."""
    producer = wire.producer(bootstrap)
    try:
        yield producer
    finally:
        with contextlib.suppress(KafkaError):
            producer.close(timeout=CLOSE_S)


def _check(failures: Sequence[BaseException | None], total: int) -> None:
    if failures:
        raise RetryLater(
            f"the broker acknowledged {total - len(failures)} of {total} messages ({failures[0]}): "
            "fetch again, only the others will be sent"
        )
