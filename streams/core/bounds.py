"""Limits of what the fold keeps, so that each window and trigger fits a message, whatever a feed publishes.

    labels     a model has at most `MAX_LABELS`, each of at most `MAX_LABEL_BYTES`; others are not counted
    spans      the oldest pending spans are merged when there are more than `MAX_SPANS`, up to the bound of a run
    samples    `schemas.policy.MAX_SAMPLE` bounds each of them

A label that is not counted is in no window, trigger or head of a model. Its examples are trained on all the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from itertools import pairwise

import msgspec

from schemas.windows import Span

MAX_LABELS = 1_000
"""Distinct labels of a model. ATT&CK has had about 40 tactics in all its releases and domains."""

MAX_LABEL_BYTES = 200
"""Longest label as JSON, without its quotation marks."""

MAX_SPANS = 500
"""Pending spans. There can be more only if any two together are more than a run takes; a trigger has no more."""

MAX_ID_CHARS = 200
"""Ids of requests and names of versions are truncated to this many characters."""


class PendingSpan(msgspec.Struct, frozen=True):
    """A closed window that no champion was trained on.

    Attributes:
        span: Its part of a trigger.
        labels: Label -> training examples.
    """

    span: Span
    labels: dict[str, int]


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
    for label in labels:  # not `all`: this is asked for every example
        if label not in known and label not in also_known:
            break
    else:
        return labels
    counted = {*known, *also_known}
    for label in labels:
        if label not in counted and len(counted) < MAX_LABELS and _fits(label):
            counted.add(label)
    return tuple(label for label in labels if label in counted)


def _fits(label: str) -> bool:
    return len(label) <= MAX_LABEL_BYTES and len(msgspec.json.encode(label)) - 2 <= MAX_LABEL_BYTES


def merge_oldest(pending: list[PendingSpan], boundary: int, bound: int) -> list[PendingSpan]:
    """The pending spans, of which the two oldest are merged while there are more than `MAX_SPANS`.

    Args:
        pending: Consecutive spans, oldest first.
        boundary: A journal offset; spans before and after it are not merged, because a verdict divides them there.
        bound: Spans with more training examples together are not merged; 0: no bound.
    """
    pending = list(pending)
    while len(pending) > MAX_SPANS:
        pairs = pairwise(pending)
        first = next((n for n, pair in enumerate(pairs) if _may_merge(*pair, boundary, bound)), None)
        if first is None:
            break
        pending[first : first + 2] = [_merged(*pending[first : first + 2])]
    return pending


def _may_merge(older: PendingSpan, newer: PendingSpan, boundary: int, bound: int) -> bool:
    fits = not bound or older.span.examples + newer.span.examples <= bound
    return fits and older.span.end != boundary


def spans_of_a_run(pending: list[PendingSpan], bound: int) -> list[PendingSpan]:
    """The oldest pending spans that one run takes: at least one, and at most `MAX_SPANS` + 1.

    Args:
        pending: Consecutive spans, oldest first.
        bound: Largest number of their training examples; 0: no bound.
    """
    taken, examples = list[PendingSpan](), 0
    for each in pending[: MAX_SPANS + 1]:
        examples += each.span.examples
        if bound and taken and examples > bound:
            break
        taken.append(each)
    return taken


def _merged(older: PendingSpan, newer: PendingSpan) -> PendingSpan:
    a, b = older.span, newer.span
    digest = hashlib.blake2b(f"{a.digest}|{b.digest}".encode(), digest_size=16).hexdigest()
    labels = dict(older.labels)
    for label, examples in newer.labels.items():
        labels[label] = labels.get(label, 0) + examples
    return PendingSpan(Span(a.start, b.end, a.examples + b.examples, digest), labels)
