"""The message of a dead letter."""

from __future__ import annotations

from schemas.codec import MAX_RECORD_BYTES, encode_message
from schemas.dead_letters import dead_letter_message, rejection_digest
from schemas.errors import BadRecord
from schemas.events import MAX_PAYLOAD_BYTES, DeadLetter


def test_a_dead_letter_keeps_the_reason_and_the_first_bytes_and_is_identified_by_all_of_them() -> None:
    payload = b"x" * (MAX_PAYLOAD_BYTES + 1)
    record, headers = dead_letter_message("f:a", BadRecord("no-id", "none"), payload, source="/feeds/f", time_ms=7)
    assert record == DeadLetter(
        origin="f:a",
        reason="no-id",
        detail="none",
        payload=payload[:-1],
        payload_bytes=len(payload),
        time_ms=7,
    )
    assert dict(headers)["ce_id"].decode() == rejection_digest("f:a", "no-id", payload)
    assert dict(headers)["ce_source"] == b"/feeds/f"


def test_another_origin_reason_or_payload_is_another_dead_letter() -> None:
    parts = [("a", "b", b"c"), ("ab", "", b"c"), ("a", "bc", b""), ("a", "b", b"d"), ("", "ab", b"c")]
    assert len({rejection_digest(*each) for each in parts}) == len(parts)


def test_a_dead_letter_of_any_origin_and_detail_fits_a_message() -> None:
    error = BadRecord("undecodable", "\x00" * 10**6)
    record, _ = dead_letter_message("\N{SNOWMAN}" * 10**6, error, b"\xff" * 10**6, source="/feeds/f", time_ms=7)
    assert len(encode_message(record)) < MAX_RECORD_BYTES / 2
