"""Writes messages that can't be used to the dead-letter topic, with reason and origin. The others are processed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from schemas.codec import decode
from schemas.dead_letters import dead_letter_message
from schemas.errors import BadRecord
from schemas.topics import DEAD_LETTERS
from streams import telemetry
from streams.app.sink import ConsumedMessage
from transport.kafka import RecordProducer

log = logging.getLogger(__name__)

SOURCE = "/streams/app"
"""The CloudEvents `source` of the dead letters of the app."""

DeadLetterWriter = Callable[[ConsumedMessage, BadRecord], None]


def dead_letter_writer(producer: RecordProducer) -> DeadLetterWriter:
    """A function that sends a message to the dead-letter topic and counts it; the caller flushes `producer`."""

    def write_dead_letter(message: ConsumedMessage, error: BadRecord) -> None:
        origin = f"{message.topic}/{message.partition}/{message.offset}"
        time_ms = int(time.time() * 1000)
        record, headers = dead_letter_message(origin, error, message.value, source=SOURCE, time_ms=time_ms)
        producer.send(DEAD_LETTERS.name, record, key=record.origin, headers=headers)
        telemetry.EVENTS_REJECTED.labels(feed="stream", reason=error.reason).inc()
        log.warning("dead letter %s: %s", origin, error)

    return write_dead_letter


def decode_messages(
    messages: Iterable[ConsumedMessage], record_type: Any, write_dead_letter: DeadLetterWriter
) -> Iterator[tuple[ConsumedMessage, Any]]:
    """Decode messages; those that can't be decoded become dead letters.

    Args:
        messages: In offset order within each partition.
        record_type: The type, or union of types, of their values.
        write_dead_letter: From `dead_letter_writer`.

    Yields:
        (message, record) of each message that decodes, in order.
    """
    for message in messages:
        try:
            yield message, decode(message.value, record_type)
        except BadRecord as error:
            write_dead_letter(message, error)
