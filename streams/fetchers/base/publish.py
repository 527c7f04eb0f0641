"""Events and dead letters onto their topics, and only what the broker has acknowledged counts.

(event, time) ──> key, JSON, CloudEvents headers ──idempotent producer──> all replicas ──> acknowledged
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kafka import KafkaProducer
from kafka.errors import KafkaError

from schemas import cloudevents
from schemas.codec import encode
from schemas.errors import RetryLater
from schemas.events import MAX_PAYLOAD_BYTES, DeadLetter, Event, content_hash
from schemas.topics import DEAD_LETTERS, topic_of
from streams.fetchers.base.feed import OnProgress, Rejected
from transport import kafka as wire

ACKNOWLEDGED_S = 150.0
"""Longest wait for the last acknowledgement; the producer gives up on a record after 120 s."""
CLOSE_S = 2.0
_REPORT_EVERY = 500


class Outgoing(NamedTuple):
    """One message, ready to send."""

    topic: str
    key: str
    value: bytes
    headers: list[tuple[str, bytes]]


def event_headers(event: Event, observed_ms: int) -> cloudevents.Headers:
    """The CloudEvents headers of an event; `observed_ms` is when the feed was read."""
    event_type = f"threat.{type(event).__name__.lower()}.v1"
    return cloudevents.headers(content_hash(event), event_type, cloudevents.source_of(event.feed), observed_ms)


def outgoing_event(event: Event, observed_ms: int) -> Outgoing:
    """The message of an event; `observed_ms` is when the feed was asked."""
    return Outgoing(topic_of(event).name, event.id, encode(event), event_headers(event, observed_ms))


def outgoing_letter(rejected: Rejected, feed: str, observed_ms: int) -> Outgoing:
    """The message of a dead letter; its `ce_id` is the digest of what was rejected."""
    letter = DeadLetter(
        origin=rejected.origin,
        reason=rejected.error.reason,
        detail=rejected.error.detail,
        payload=rejected.payload[:MAX_PAYLOAD_BYTES],
        payload_bytes=len(rejected.payload),
        time_ms=observed_ms,
    )
    headers = cloudevents.headers(rejected.digest, "threat.dead-letter.v1", cloudevents.source_of(feed))
    return Outgoing(DEAD_LETTERS.name, rejected.origin, encode(letter), headers)


def publish(bootstrap: str, messages: Sequence[Outgoing], on_progress: OnProgress) -> None:
    """Send messages in their order and wait until the broker has all of them.

    Raises:
        RetryLater: The broker did not acknowledge every one; those it did are on their topics.
    """
    with wire.kafka_errors("publishing"), _sending(bootstrap) as producer:
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
def _sending(bootstrap: str) -> Iterator[KafkaProducer]:
    """A producer; closing it waits little, because what matters was flushed or has failed."""
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
