"""What a fetch has in all, for the rules that set a feed aside: pure.

Near-duplicates are found by one MinHash of each text: two texts have the same one with a probability that is the
Jaccard similarity of their sets of shingles (Broder 1997, "On the resemblance and containment of documents"). A
burst of near-duplicates therefore shares one value, and texts that only begin alike do not.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence

from schemas.encoding import EncodedEvent
from schemas.events import Event
from schemas.fetch_totals import FetchTotals
from schemas.topics import topic_of
from streams.fetchers.base.diff import ChangeKind
from streams.fetchers.base.entries import Entries, labels_of

SHINGLE_WORDS = 3
MAX_WORDS = 200
"""Words of a text that are compared; near-duplicates are alike from their beginning on."""
MIN_WORDS = 6
"""Shorter texts are alike by chance."""
_WORD = re.compile(r"[a-z]+")
"""Digits, ids and punctuation are left out: copies differ in them."""


def fetch_totals(events: Sequence[tuple[EncodedEvent, ChangeKind]], published: Entries) -> FetchTotals:
    """The totals of a fetch.

    Args:
        events: What it publishes.
        published: What the feed had published before.
    """
    known = sum(map(len, published.values()))
    if not known:
        return FetchTotals(len(events))
    used = {label for entries in published.values() for entry in entries.values() for label in _split(entry.labels)}
    relabelled = sum(_is_relabelled(encoded.event, published, used) for encoded, _ in events)
    groups = Counter(filter(None, (min_hash(_text(encoded.event)) for encoded, _ in events)))
    alike = groups.most_common(1)[0][1] if groups else 0
    return FetchTotals(len(events), known, relabelled, alike)


def min_hash(text: str) -> int:
    """The least CRC-32 of the shingles of a text; 0 for a text that is too short to compare.

    >>> min_hash("Adversaries may dump the memory of 17 processes") == min_hash(
    ...     "Adversaries may dump the memory of 9 processes")
    True
    """
    words = _WORD.findall(text[: 16 * MAX_WORDS].lower())[:MAX_WORDS]
    if len(words) < MIN_WORDS:
        return 0
    shingles = (" ".join(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1))
    return min(zlib.crc32(shingle.encode()) for shingle in shingles) or 1


def _text(event: Event) -> str:
    return event.text if event.status == "active" else ""


def _is_relabelled(event: Event, published: Entries, used: set[str]) -> bool:
    """Whether an event contradicts the labels that its entity had, in labels that the feed had used before."""
    before = published.get(topic_of(event).name, {}).get(event.id)
    labels = labels_of(event)
    if before is None or event.status != "active" or not labels:
        return False
    had = _split(before.labels)
    return bool(had) and had != set(labels) and used.issuperset(labels)


def _split(labels: str) -> set[str]:
    return set(filter(None, labels.split(",")))
