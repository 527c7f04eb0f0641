"""Limits of what the fold keeps, so that each window and trigger fits a message, whatever a feed publishes.

    labels     a model has at most `MAX_LABELS`, each of at most `MAX_LABEL_BYTES`; others are not counted
    spans      the oldest pending spans are merged when there are more than `MAX_SPANS`
    samples    `schemas.policy.MAX_SAMPLE` bounds each of them

A label that is not counted is in no window, trigger or head of a model. Its examples are trained on all the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import msgspec

from schemas.windows import Span

MAX_LABELS = 1_000
"""Distinct labels of a model. ATT&CK has had about 40 tactics in all its releases and domains."""

MAX_LABEL_BYTES = 200
"""Longest label as JSON, without its quotation marks."""

MAX_SPANS = 500
"""Pending spans. They grow in number only while no candidate is promoted."""

MAX_ID_CHARS = 200
"""Ids of requests and names of versions are truncated to this many characters."""


def counted_labels(labels: tuple[str, ...], known: Collection[str], also_known: Collection[str]) -> tuple[str, ...]:
    """The labels of an example that are counted.

    Args:
        labels: All labels of the example.
        known, also_known: Both together are the labels that are counted already.

    Returns:
        The known ones, and new ones while there is room for them, in order.

    >>> counted_labels(("impact", "x" * 201, "execution"), {"impact"}, ())
    ('impact', 'execution')
    """
    if all(label in known or label in also_known for label in labels):
        return labels
    counted = {*known, *also_known}
    for label in labels:
        if label not in counted and len(counted) < MAX_LABELS and _fits(label):
            counted.add(label)
    return tuple(label for label in labels if label in counted)


def _fits(label: str) -> bool:
    return len(label) <= MAX_LABEL_BYTES and len(msgspec.json.encode(label)) - 2 <= MAX_LABEL_BYTES


def merge_oldest(spans: list[Span], boundary: int) -> list[Span]:
    """The spans, of which the two oldest are merged while there are more than `MAX_SPANS`.

    Args:
        spans: Consecutive spans, oldest first.
        boundary: A journal offset; spans before and after it are not merged, because a verdict divides them there.
    """
    spans = list(spans)
    while len(spans) > MAX_SPANS:
        first = 1 if spans[0].end == boundary else 0
        spans[first : first + 2] = [_merged(*spans[first : first + 2])]
    return spans


def _merged(older: Span, newer: Span) -> Span:
    digest = hashlib.blake2b(f"{older.digest}|{newer.digest}".encode(), digest_size=16).hexdigest()
    return Span(older.start, newer.end, older.examples + newer.examples, digest)
