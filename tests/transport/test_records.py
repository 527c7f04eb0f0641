"""Messages that hold no record are passed over and counted; the others come out in order."""

from __future__ import annotations

import logging
from typing import NamedTuple

import pytest
from prometheus_client import REGISTRY

from schemas.codec import encode
from schemas.journal import Record, Tick
from transport.records import decoded


class Message(NamedTuple):
    offset: int
    value: bytes | None
    timestamp: int = 0


def count(reason: str) -> float:
    labels = {"topic": "test.decoded", "reason": reason}
    return REGISTRY.get_sample_value("sx9_records_passed_over_total", labels) or 0.0


def test_messages_without_a_value_or_with_nonsense_are_passed_over_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    values = [encode(Tick(1)), None, b"", b"{nonsense", b'{"type":"unheard-of"}', encode(Tick(2))]
    messages = [Message(offset, value) for offset, value in enumerate(values)]
    with caplog.at_level(logging.WARNING):
        found = [(m.offset, record) for m, record in decoded(messages, Record, "test.decoded", 3)]
    assert found == [(0, Tick(1)), (5, Tick(2))]
    assert (count("no-value"), count("undecodable")) == (1, 3)
    assert (
        caplog.messages[0] == "passing over test.decoded/3/1: no-value: a message without a value holds no record"
    )
