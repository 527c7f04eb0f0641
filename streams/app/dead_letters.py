"""Messages that can't be used go to the dead-letter topic with their reason and origin; the rest goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from schemas.codec import decode
from schemas.dead_letters import dead_letter_message
from schemas.errors import BadRecord
from schemas.topics import DEAD_LETTERS
from streams import telemetry as metrics
from streams.app.sink import Message
from transport.kafka import RecordProducer

log = logging.getLogger(__name__)

SOURCE = "/streams/app"
"""The CloudEvents `source` of the dead letters of the app."""

Reject = Callable[[Message, BadRecord], None]


def rejecter(outbox: RecordProducer) -> Reject:
    """A function that writes a message to the dead-letter topic through `outbox`, and counts it."""

    def reject(message: Message, error: BadRecord) -> None:
        origin = f"{message.topic}/{message.partition}/{message.offset}"
        time_ms = int(time.time() * 1000)
        record, headers = dead_letter_message(origin, error, message.value, source=SOURCE, time_ms=time_ms)
        outbox.send(DEAD_LETTERS.name, record, key=record.origin, headers=headers)
        metrics.EVENTS_REJECTED.labels(feed="stream", reason=error.reason).inc()
        log.warning("dead letter %s: %s", origin, error)

    return reject


def decoded(messages: Iterable[Message], record: Any, reject: Reject) -> Iterator[tuple[Message, Any]]:
    """(message, record) of every message that decodes as `record`; the others are rejected."""
    for message in messages:
        try:
            yield message, decode(message.value, record)
        except BadRecord as error:
            reject(message, error)
