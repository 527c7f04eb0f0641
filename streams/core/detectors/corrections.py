"""How many of the champion's training examples no longer stand as it learnt them: retracted, or relabelled.

The examples are a bottom-k sample of keys (Cohen & Kaplan, 2007), so memory is bounded: up to `size` keys the count
is exact. Beyond, it is an estimate: with n keys and c corrections the relative standard error is about
sqrt((n / size - 1) / c).
"""

from __future__ import annotations

import heapq

import msgspec

from schemas.journal import key_hash

NOTHING = 0
"""In place of labels: not learnt, or retracted."""
HASHES = 2**63


class Corrections(msgspec.Struct):
    """The labels of a sample of keys, as the champion learnt them and as they are now.

    Attributes:
        size: How many keys it holds at most, at least 1.
        entries: Key hash -> (labels that the champion learnt, labels now, journal offset of the latest example);
            the labels as a hash, or `NOTHING`.
        heap: Negated key hashes as a max-heap; it may still hold keys that have left.
        is_full: Whether a key was ever refused or evicted.
        corrected: How many of the entries are corrections.
    """

    size: int
    entries: dict[int, tuple[int, int, int]] = {}
    heap: list[int] = []
    is_full: bool = False
    corrected: int = 0

    def put(self, key: int, labels: tuple[str, ...], offset: int) -> None:
        """Record the latest example of a key, by its hash."""
        if entry := self.entries.get(key):
            self._replace(key, (entry[0], _signature(labels), offset))
        elif len(self.entries) < self.size or key < self._largest():
            self.entries[key] = (NOTHING, _signature(labels), offset)
            heapq.heappush(self.heap, -key)
            self.resize(self.size)
        else:
            self.is_full = True

    def retract(self, key: int, offset: int) -> None:
        """Record that a key was retracted."""
        if entry := self.entries.get(key):
            self._replace(key, (entry[0], NOTHING, offset))

    def learn(self, end: int) -> None:
        """A champion has learnt what stands before a journal offset."""
        for key, (_, now, offset) in list(self.entries.items()):
            if offset < end and now == NOTHING:
                self._remove(key)
            elif offset < end:
                self._replace(key, (now, now, offset))

    def count(self) -> int:
        """The number of the champion's examples that no longer stand as it learnt them; see the module."""
        if not self.corrected or not self.is_full:
            return self.corrected
        keys = (len(self.entries) - 1) * HASHES / max(self._largest(), 1)
        return round(self.corrected * max(1.0, keys / len(self.entries)))

    def resize(self, size: int) -> None:
        """Set another size. Keys that left a smaller sample don't come back to a larger one."""
        self.size = size
        while len(self.entries) > size:
            self._remove(self._largest())
            self.is_full = True
        if len(self.heap) > 2 * self.size + 64:
            self.heap = sorted(-key for key in self.entries)

    def _replace(self, key: int, entry: tuple[int, int, int]) -> None:
        self.corrected += _is_correction(entry) - _is_correction(self.entries[key])
        self.entries[key] = entry

    def _remove(self, key: int) -> None:
        self.corrected -= _is_correction(self.entries.pop(key))

    def _largest(self) -> int:
        while -self.heap[0] not in self.entries:
            heapq.heappop(self.heap)
        return -self.heap[0]


def _is_correction(entry: tuple[int, int, int]) -> bool:
    learnt, now, _ = entry
    return learnt not in (NOTHING, now)


def _signature(labels: tuple[str, ...]) -> int:
    """A hash of labels that is never `NOTHING`."""
    return key_hash("\n".join(sorted(labels))) or 1
