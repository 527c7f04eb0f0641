"""The message of a dead letter: its record and its CloudEvents headers, made in one place for all who reject."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from schemas import cloudevents
from schemas.errors import BadRecord
from schemas.events import MAX_PAYLOAD_BYTES, DeadLetter

EVENT_TYPE = "threat.dead-letter.v1"

MAX_TEXT_CHARS = 2_000
"""Longer origins and details are truncated, so that a dead letter always fits a message."""


class DeadLetterMessage(NamedTuple):
    """A dead letter and the headers of its message; the message key is `record.origin`."""

    record: DeadLetter
    headers: cloudevents.Headers


def dead_letter_message(
    origin: str,
    error: BadRecord,
    payload: bytes,
    *,
    source: str,
    time_ms: int,
    payload_bytes: int | None = None,
    digest: str | None = None,
) -> DeadLetterMessage:
    """Make the dead letter of something that can't be used.

    Args:
        origin: Where it came from: `topic/partition/offset`, or `feed:file` or `feed:object`.
        error: Why it can't be used.
        payload: All of its bytes; the record keeps the first `MAX_PAYLOAD_BYTES`.
        source: The CloudEvents `source`: who rejected it.
        time_ms: When it was rejected, ms since 1970 UTC.
        payload_bytes: Full size; None: of `payload`.
        digest: Its `rejection_digest`; None: that of `payload`.
    """
    record = DeadLetter(
        origin=origin[:MAX_TEXT_CHARS],
        reason=error.reason,
        detail=error.detail[:MAX_TEXT_CHARS],
        payload=payload[:MAX_PAYLOAD_BYTES],
        payload_bytes=len(payload) if payload_bytes is None else payload_bytes,
        time_ms=time_ms,
    )
    event_id = rejection_digest(origin, error.reason, payload) if digest is None else digest
    return DeadLetterMessage(record, cloudevents.headers(event_id, EVENT_TYPE, source))


def rejection_digest(origin: str, reason: str, payload: bytes | memoryview) -> str:
    """32 hex digits, equal for the same bytes rejected at the same origin for the same reason."""
    state = hashlib.blake2b(digest_size=16)
    for part in (origin.encode(), reason.encode(), payload):
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return state.hexdigest()
