"""How records travel: the settings of every Kafka client, CloudEvents headers, and the bulk reader.

The one file of the contract that knows Kafka; the cores never import it.

    producer(bootstrap)  ->  send(topic, record, key, headers)  ->  acknowledged by all replicas, in order
    bulk(consumer, topic, partition, start, end)  ->  every message of a half-open range of offsets
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from schemas.errors import Corrupt, RetryLater
from schemas.events import Event, content_hash

BULK_MESSAGES = 2_000
"""Messages a bulk read asks for at a time."""

POLL_PATIENCE_S = 60.0
"""A bulk read that gets nothing for so long gives up."""

PRODUCER: dict[str, Any] = {
    "acks": "all",
    "enable_idempotence": True,
    "compression_type": "zstd",
    "linger_ms": 20,
    "batch_size": 131_072,
    "allow_auto_create_topics": False,
    "metrics_enabled": False,
}
CONSUMER: dict[str, Any] = {
    "auto_offset_reset": "earliest",
    "enable_auto_commit": False,
    "allow_auto_create_topics": False,
    "max_poll_records": BULK_MESSAGES,
    "max_partition_fetch_bytes": 8 * 1024 * 1024,
    "metrics_enabled": False,
}


@contextlib.contextmanager
def kafka_errors(doing: str) -> Iterator[None]:
    """Maps what the Kafka client raises to `RetryLater`, saying what was being done."""
    try:
        yield
    except KafkaError as error:
        raise RetryLater(
            f"Kafka did not answer while {doing}: {type(error).__name__}: {error}; "
            "check that it runs (`sx9 status`) and try again"
        ) from error


def producer(bootstrap: str, **settings: Any) -> KafkaProducer:
    """An idempotent producer that waits for all replicas.

    Raises:
        RetryLater: No broker answers at `bootstrap` (host:port).
    """
    with kafka_errors(f"connecting to {bootstrap}"):
        return KafkaProducer(bootstrap_servers=bootstrap, **(PRODUCER | settings))


def consumer(bootstrap: str, **settings: Any) -> KafkaConsumer:
    """A consumer that commits only when told to; without `group_id` it belongs to no group.

    Raises:
        RetryLater: No broker answers at `bootstrap` (host:port).
    """
    with kafka_errors(f"connecting to {bootstrap}"):
        return KafkaConsumer(bootstrap_servers=bootstrap, **(CONSUMER | settings))


def end_offset(reader: KafkaConsumer, topic: str, partition: int) -> int:
    """The offset that the next message of a partition will get."""
    place = TopicPartition(topic, partition)
    with kafka_errors(f"asking for the end of {topic}/{partition}"):
        return int(reader.end_offsets([place])[place])


def bulk(
    reader: KafkaConsumer, topic: str, partition: int, start: int, end: int | None = None
) -> Iterator[list[Any]]:
    """Read the offsets `[start, end)` of one partition as fast as a plain consumer can.

    Args:
        reader: A consumer without a group; its assignment is replaced.
        end: Exclusive; None means what is there now.

    Yields:
        Lists of messages in order of offset (`.offset`, `.key`, `.value`, `.headers`, `.timestamp`).

    Raises:
        Corrupt: The log begins after `start`: records that are needed are gone.
        RetryLater: The broker gave nothing for `POLL_PATIENCE_S`.
    """
    end = end_offset(reader, topic, partition) if end is None else end
    if start >= end:
        return
    place = TopicPartition(topic, partition)
    with kafka_errors(f"reading {topic}/{partition} from {start}"):
        first = int(reader.beginning_offsets([place])[place])
        if first > start:
            raise Corrupt(
                f"{topic}/{partition} begins at offset {first}, but offset {start} is needed: "
                "older records were deleted (retention); restore them or rebuild from a later position"
            )
        reader.assign([place])
        reader.seek(place, start)
        heard = time.monotonic()
        while start < end:
            messages = reader.poll(timeout_ms=1_000).get(place, [])
            if messages:
                heard = time.monotonic()
                start = messages[-1].offset + 1
                yield messages if start <= end else [m for m in messages if m.offset < end]
            elif time.monotonic() - heard > POLL_PATIENCE_S:
                raise RetryLater(
                    f"{topic}/{partition}: nothing for {POLL_PATIENCE_S:.0f} s at offset {start} of {end}; "
                    "check the broker and try again"
                )


def event_headers(event: Event, observed_ms: int) -> list[tuple[str, bytes]]:
    """CloudEvents 1.0 attributes of an event as Kafka headers (Kafka protocol binding, binary mode)."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", content_hash(event).encode()),
        ("ce_type", f"threat.{type(event).__name__.lower()}.v1".encode()),
        ("ce_source", f"/feeds/{event.feed}".encode()),
        ("ce_time", _rfc3339(observed_ms).encode()),
        ("content-type", b"application/json"),
    ]


def _rfc3339(time_ms: int) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_ms // 1000))
    return f"{whole}.{time_ms % 1000:03d}Z"
