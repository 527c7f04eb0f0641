"""CloudEvents 1.0 attributes as Kafka headers (Kafka protocol binding, binary content mode)."""

from __future__ import annotations

import time

Headers = list[tuple[str, bytes]]

_FEEDS = "/feeds/"
EVENT_ID, EVENT_SOURCE, EVENT_TIME = "ce_id", "ce_source", "ce_time"
FETCH_TOTALS = "ce_sx9fetch"
"""An extension of ours: see `schemas.fetch_totals`."""


def source_of(feed: str) -> str:
    """The CloudEvents `source` of everything that a feed publishes.

    >>> source_of("nuclei-templates")
    '/feeds/nuclei-templates'
    """
    return f"{_FEEDS}{feed}"


def feed_of(source: str) -> str:
    """The feed of a CloudEvents `source`; empty for a source that is not a feed.

    >>> feed_of("/feeds/nuclei-templates"), feed_of("/streams/app")
    ('nuclei-templates', '')
    """
    return source.removeprefix(_FEEDS) if source.startswith(_FEEDS) else ""


def headers(event_id: str, event_type: str, source: str, time_ms: int | None = None) -> Headers:
    """The Kafka headers of one message.

    Args:
        event_id: Equal for equal content: a content hash.
        event_type: `threat.technique.v1`.
        source: From `source_of`.
        time_ms: When the feed was read, ms since 1970 UTC; None leaves the attribute out.

    >>> dict(headers("a1", "threat.technique.v1", "/feeds/f", 0))["ce_time"]
    b'1970-01-01T00:00:00.000Z'
    """
    attributes = [("ce_specversion", "1.0"), (EVENT_ID, event_id), ("ce_type", event_type), (EVENT_SOURCE, source)]
    if time_ms is not None:
        attributes.append((EVENT_TIME, _rfc3339(time_ms)))
    return [(name, value.encode()) for name, value in [*attributes, ("content-type", "application/json")]]


def _rfc3339(time_ms: int) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_ms // 1000))
    return f"{seconds}.{time_ms % 1000:03d}Z"
