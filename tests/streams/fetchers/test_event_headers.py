"""The headers of a published event."""

from __future__ import annotations

from typing import Any

from schemas.encoding import encode_event
from streams.fetchers.base.publish import event_headers
from tests.flow.events import technique


def test_the_headers_of_an_event_are_cloudevents() -> None:
    headers: dict[str, Any] = dict(event_headers(encode_event(technique(1)), 1_700_000_000_007))
    assert headers["ce_time"] == b"2023-11-14T22:13:20.007Z"
    assert (headers["ce_specversion"], headers["ce_type"]) == (b"1.0", b"threat.technique.v1")
    assert headers["ce_source"] == b"/feeds/attack-enterprise"
    assert len(headers["ce_id"]) == 32
