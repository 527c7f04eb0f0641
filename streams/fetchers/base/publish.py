"""Publishes events and dead letters; only what the broker has acknowledged counts as published.

(encoded event, time) ──> key, value, CloudEvents headers ──idempotent producer──> all replicas ──> acknowledged

A broker refuses a batch that is larger than the `max.message.bytes` of its topic, and the producer is then lost,
with all that it has not sent yet. So an event that does not fit alone is found before anything is sent, and no
batch of several is larger than the smallest limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import msgspec
from kafka.record.memory_records import MemoryRecordsBuilder

from schemas import cloudevents
from schemas.codec import encode
from schemas.dead_letters import dead_letter_message
from schemas.encoding import EncodedEvent
from schemas.errors import BadRecord, RetryLater
from schemas.fetch_totals import FetchTotals, totals_to_header
from schemas.topics import DEAD_LETTERS, topic_of
from streams.fetchers.base.clients import KafkaClients, clients_of
from streams.fetchers.base.feed import OnProgress, RejectedItem
from transport import kafka as wire
from transport.admin import max_message_bytes
from transport.kafka import MESSAGE_BYTES

ACKNOWLEDGED_S = 150.0
"""Longest wait for the last acknowledgement, seconds; the producer gives up on a record after 120 s."""
NO_LIMITS: Mapping[str, int] = MappingProxyType({})
_MAGIC, _ZSTD = 2, 4
"""Version and compression of the producer's batches."""
_ENVELOPE_BYTES = 10_000
"""More than a batch adds to the value of its only message: the key, an id or an origin, and the headers."""
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


def outgoing_event(encoded: EncodedEvent, observed_ms: int, totals: FetchTotals | None = None) -> OutgoingMessage:
    """The message of an event.

    Args:
        encoded: The event.
        observed_ms: When the feed was read, ms since 1970 UTC.
        totals: Of the fetch; None: the event is not from a fetch.
    """
    event, headers = encoded.event, event_headers(encoded, observed_ms)
    if totals is not None:
        headers.append((cloudevents.FETCH_TOTALS, totals_to_header(totals)))
    return OutgoingMessage(topic_of(event).name, event.id, encoded.value, headers)


def oversize(encoded: EncodedEvent, limits: Mapping[str, int]) -> BadRecord | None:
    """Why an event does not fit a message of its topic; None: it does.

    Args:
        encoded: The event.
        limits: Topic -> its `max.message.bytes`.
    """
    topic = topic_of(encoded.event).name
    if not _may_be_oversize(encoded.value, topic, limits):
        return None
    size = packed_bytes(outgoing_event(encoded, 0))
    if size <= limits[topic]:
        return None
    remedy = f"kafka-configs --alter --entity-type topics --entity-name {topic} --add-config max.message.bytes="
    return BadRecord(
        "too-large-for-topic",
        f"the message has {size} bytes when packed; the limit is {limits[topic]}, max.message.bytes of {topic}: "
        f"raise it ({remedy}{MESSAGE_BYTES}) and fetch again",
    )


def _may_be_oversize(value: bytes, topic: str, limits: Mapping[str, int]) -> bool:
    return topic in limits and len(value) + _ENVELOPE_BYTES > limits[topic]


def packed_bytes(message: OutgoingMessage) -> int:
    """The bytes of a batch with one message, as the producer packs it."""
    builder = MemoryRecordsBuilder(_MAGIC, _ZSTD, batch_size=0)
    builder.append(0, message.key.encode(), message.value, list(message.headers))
    builder.close()
    return len(builder.buffer())


def outgoing_dead_letter(
    rejected: RejectedItem, feed: str, observed_ms: int, limits: Mapping[str, int] = NO_LIMITS
) -> OutgoingMessage:
    """The message of a rejected item; its `ce_id` is the digest of the item.

    Args:
        rejected: The item.
        feed: Name of the feed.
        observed_ms: When the feed was read, ms since 1970 UTC.
        limits: Topic -> its `max.message.bytes`; the payload is cut to what fits.
    """
    message = _dead_letter(rejected, feed, observed_ms)
    while rejected.payload and _may_be_oversize(message.value, DEAD_LETTERS.name, limits):
        if packed_bytes(message) <= limits[DEAD_LETTERS.name]:
            break
        rejected = msgspec.structs.replace(rejected, payload=rejected.payload[: len(rejected.payload) // 2])
        message = _dead_letter(rejected, feed, observed_ms)
    return message


def _dead_letter(rejected: RejectedItem, feed: str, observed_ms: int) -> OutgoingMessage:
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


def message_limits(clients: KafkaClients, topics: Sequence[str]) -> dict[str, int]:
    """Topic -> its `max.message.bytes`.

    Raises:
        RetryLater: The broker does not answer.
    """
    with clients.admin() as admin:
        return max_message_bytes(admin, topics)


def publish(
    kafka: str | KafkaClients,
    messages: Sequence[OutgoingMessage],
    on_progress: OnProgress,
    limits: Mapping[str, int] = NO_LIMITS,
) -> None:
    """Send messages in their order and wait until the broker has acknowledged all of them.

    Args:
        kafka: host:port of Kafka, or the clients of a pass.
        messages: The messages.
        on_progress: Called with the stage `publish`.
        limits: Topic -> its `max.message.bytes`.

    Raises:
        BadConfiguration: The broker accepts no message of the size of one of them.
        RetryLater: Not every message was acknowledged; those that were are on their topics.
    """
    batch_size = min((wire.PRODUCER["batch_size"], *limits.values()))
    with wire.kafka_errors("publishing"), clients_of(kafka) as clients, clients.producer(batch_size) as producer:
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


def _check(failures: Sequence[BaseException | None], total: int) -> None:
    if failures:
        raise RetryLater(
            f"the broker acknowledged {total - len(failures)} of {total} messages ({failures[0]}): "
            "fetch again, only the others will be sent"
        )
