"""What a fetch published in all: a fetcher says it with each event, so that each can be judged by the whole.

It travels as the CloudEvents extension `sx9fetch` (`schemas.cloudevents.FETCH_TOTALS`), and in the source of a
journal record.
"""

from __future__ import annotations

import msgspec

from schemas.codec import decode, encode
from schemas.errors import BadRecord


class FetchTotals(msgspec.Struct, frozen=True, omit_defaults=True):
    """The totals of one fetch of a feed.

    Attributes:
        events: Events that it publishes.
        known: Entities that the feed had published before; 0: it is the first fetch.
        relabelled: Events whose labels are others than those that the feed gave the entity before, though the feed
            had used all of them. Labels that are new to the feed are a new taxonomy, not a contradiction.
        alike: Events in the largest group of near-duplicates.
    """

    events: int
    known: int = 0
    relabelled: int = 0
    alike: int = 0


def totals_to_header(totals: FetchTotals) -> bytes:
    """The value of the header."""
    return encode(totals)


def totals_of_header(value: bytes) -> FetchTotals | None:
    """The totals of a header; None for one that is missing or can't be read.

    >>> totals_of_header(b'{"events":7}'), totals_of_header(b"")
    (FetchTotals(events=7, known=0, relabelled=0, alike=0), None)
    """
    try:
        found: FetchTotals = decode(value, FetchTotals)
    except BadRecord:
        return None
    return found
