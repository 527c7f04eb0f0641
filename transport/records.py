"""The records in the messages of a topic. What can't be used is passed over and counted, in every reader."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar

from prometheus_client import Counter

from schemas.codec import decode
from schemas.errors import BadRecord

log = logging.getLogger(__name__)

PASSED_OVER = Counter(
    "sx9_records_passed_over_total", "Messages that hold no record of their topic", ["topic", "reason"]
)


class ConsumerRecord(Protocol):
    """A message as a consumer reads it; `timestamp` is ms since 1970 UTC, `value` is None for a tombstone."""

    offset: int
    timestamp: int
    value: bytes | None


ConsumerRecordT = TypeVar("ConsumerRecordT", bound=ConsumerRecord)


def decoded(
    messages: Iterable[ConsumerRecordT], record_type: Any, topic: str, partition: int
) -> Iterator[tuple[ConsumerRecordT, Any]]:
    """The records in messages of one partition.

    Args:
        messages: In offset order.
        record_type: The type, or union of types, of the records.
        topic: Name of the topic, for the warning and the counter.
        partition: Its number.

    Yields:
        (message, record) of each message that holds one, in order. A message without a value, or with one that
        can't be decoded, is passed over with a warning.
    """
    for message in messages:
        try:
            record = decode(message.value, record_type)
        except BadRecord as error:
            log.warning("passing over %s/%d/%d: %s", topic, partition, message.offset, error)
            PASSED_OVER.labels(topic=topic, reason=error.reason).inc()
        else:
            yield message, record
