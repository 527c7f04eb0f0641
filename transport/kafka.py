"""How records travel: the settings of every Kafka client, CloudEvents headers, and the bulk reader.

The one file of the contract that knows Kafka; the cores never import it.

    producer(bootstrap)  ->  send(topic, record, key, headers)  ->  acknowledged by all replicas, in order
    bulk(consumer, topic, partition, start, end)  ->  every message of a half-open range of offsets
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from schemas.codec import encode
from schemas.errors import Corrupt, RetryLater
from schemas.events import Event, content_hash

T = TypeVar("T")

BULK_MESSAGES = 2_000
"""Messages a bulk read asks for at a time."""

POLL_PATIENCE_S = 60.0
"""A bulk read that gets nothing for so long gives up."""

SETTLE_S = 60.0
"""How long acknowledgements may take."""

NEVER_MS = 2**31 - 1
"""As `delivery_timeout_ms`: a producer whose records can't expire leaves no gap in what it writes."""

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


def patiently(call: Callable[[], T], patience_s: float = 30.0) -> T:
    """The result of a call that may raise `RetryLater` at first, as a broker's first answers of a group do."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return call()
        except RetryLater:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def producer(bootstrap: str, **settings: Any) -> KafkaProducer:
    """An idempotent producer that waits for all replicas.

    Raises:
        RetryLater: No broker answers at `bootstrap` (host:port).
    """
    with kafka_errors(f"connecting to {bootstrap}"):
        return KafkaProducer(bootstrap_servers=bootstrap, **(PRODUCER | settings))


class Outbox:
    """Records on their way to the broker; `settle` waits until it has all of them.

    Args:
        producer: From `producer()`.
    """

    def __init__(self, producer: KafkaProducer) -> None:
        self._producer = producer
        self._futures: list[Any] = []

    def send(self, topic: str, record: msgspec.Struct, *, key: str, partition: int | None = None) -> None:
        """Queue one record; without `partition` the key decides."""
        with kafka_errors(f"sending to {topic}"):
            self._futures.append(
                self._producer.send(topic, key=key.encode(), value=encode(record), partition=partition)
            )

    def settle(self) -> None:
        """Wait until the broker has acknowledged everything sent since the last `settle`.

        Raises:
            RetryLater: It did not within `SETTLE_S`, or refused a record.
        """
        with kafka_errors("waiting for acknowledgements"):
            self._producer.flush(timeout=SETTLE_S)
            for future in self._futures:
                if future.failed():
                    raise future.exception
        self._futures.clear()


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
    yield from bulk_spans(reader, {(topic, partition): (start, end)})


def bulk_spans(reader: KafkaConsumer, spans: Mapping[tuple[str, int], tuple[int, int]]) -> Iterator[list[Any]]:
    """Read the offsets `[start, end)` of several partitions side by side; see `bulk`.

    Args:
        spans: (topic, partition) -> (start, end).

    Yields:
        Lists of messages of one partition each, in order of offset.
    """
    left = {TopicPartition(*place): span for place, span in spans.items() if span[0] < span[1]}
    if not left:
        return
    with kafka_errors(f"reading {', '.join(f'{p.topic}/{p.partition}' for p in left)}"):
        _seek(reader, left)
        heard = time.monotonic()
        while left:
            for place, messages in reader.poll(timeout_ms=1_000).items():
                heard = time.monotonic()
                end = left[place][1]
                wanted = messages if messages[-1].offset < end else [m for m in messages if m.offset < end]
                if messages[-1].offset + 1 >= end:
                    del left[place]
                    if left:
                        reader.assign(list(left))  # never `pause`: docs/decisions has why
                if wanted:
                    yield wanted
            if time.monotonic() - heard > POLL_PATIENCE_S:
                raise RetryLater(f"nothing for {POLL_PATIENCE_S:.0f} s of {left}; check the broker and try again")


def _seek(reader: KafkaConsumer, spans: Mapping[TopicPartition, tuple[int, int]]) -> None:
    reader.assign(list(spans))
    for place, first in reader.beginning_offsets(list(spans)).items():
        start = spans[place][0]
        if first > start:
            raise Corrupt(
                f"{place.topic}/{place.partition} begins at offset {first}, but offset {start} is needed: "
                "older records were deleted (retention); restore them or rebuild from a later position"
            )
        reader.seek(place, start)


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
