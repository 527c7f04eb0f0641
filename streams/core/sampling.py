"""Bounded samples of the keys of a journal, and seeded samples of their examples.

    BottomK              a uniform sample of all keys               ──> sample_uniform      holdout of a trigger
    StratifiedBottomK    a sample with a fair share per stratum     ──> sample_stratified   rehearsal of a trigger

Bottom-k sampling (Cohen & Kaplan, 2007) keeps the keys with the smallest hashes. While nothing is retracted, the
sample depends only on the set of keys, not on their order or on how often they are edited, so it is uniform over
keys. A later example of a key replaces the earlier. The key of a retracted example leaves the sample, and the next
new key takes its place. The same records always give the same sample.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from operator import itemgetter
from typing import TypeVar

import msgspec

T = TypeVar("T")

AGE_BINS = 4
"""`sample_stratified` divides the candidates by age into this many bins of equal size."""


class BottomK(msgspec.Struct):
    """The `size` keys with the smallest hashes, each with the journal offset of its latest example.

    Attributes:
        size: How many keys it holds at most, at least 1.
        offsets: Key hash -> offset.
        heap: Negated key hashes as a max-heap, to find the largest. It may still hold keys that have left.
    """

    size: int
    offsets: dict[int, int] = {}
    heap: list[int] = []

    def put(self, key_hash: int, offset: int) -> None:
        """Record the latest example of a key."""
        if key_hash in self.offsets:
            self.offsets[key_hash] = offset
        elif len(self.offsets) < self.size:
            self._add(key_hash, offset)
        elif key_hash < self._largest_hash():
            del self.offsets[-heapq.heappop(self.heap)]
            self._add(key_hash, offset)

    def discard(self, key_hash: int) -> None:
        """Remove a key, if it is in the sample."""
        self.offsets.pop(key_hash, None)

    def resize(self, size: int) -> None:
        """Set another size. Keys that left a smaller sample don't come back to a larger one."""
        self.size = size
        while len(self.offsets) > size:
            self._largest_hash()
            del self.offsets[-heapq.heappop(self.heap)]

    def _add(self, key_hash: int, offset: int) -> None:
        self.offsets[key_hash] = offset
        heapq.heappush(self.heap, -key_hash)
        if len(self.heap) > 2 * self.size + 64:
            self.heap = sorted(-key for key in self.offsets)

    def _largest_hash(self) -> int:
        """The largest key hash, which is at the top of the heap afterwards."""
        while -self.heap[0] not in self.offsets:
            heapq.heappop(self.heap)
        return -self.heap[0]


class StratifiedBottomK(msgspec.Struct):
    """At most `size` keys of all strata. When it is full, the largest stratum evicts the key with the largest hash.

    A stratum that was never the largest holds all of its keys, so frequent labels don't crowd out rare ones.

    Attributes:
        size: How many keys it holds at most, of all strata together, at least 1.
        entries: Key hash -> (journal offset of its latest example, stratum).
        heaps: Stratum -> negated key hashes as a max-heap; as in `BottomK`.
        eviction_thresholds: Stratum -> smallest key hash that it has evicted. While the sample is full, only keys
            with a smaller hash are added, so that a stratum always holds its smallest hashes.
        counts: Stratum -> how many keys it holds, never 0.
        max_count: The largest count; 0 if the sample is empty.
    """

    size: int
    entries: dict[int, tuple[int, str]] = {}
    heaps: dict[str, list[int]] = {}
    eviction_thresholds: dict[str, int] = {}
    counts: dict[str, int] = {}
    max_count: int = 0

    def put(self, key_hash: int, offset: int, stratum: str) -> None:
        """Record the latest example of a key and its stratum, which may have changed."""
        entry = self.entries.get(key_hash)
        if entry is not None:
            if entry[1] == stratum:
                self.entries[key_hash] = (offset, stratum)
                return
            self.discard(key_hash)
        if len(self.entries) < self.size:
            self._add(key_hash, offset, stratum)
        elif stratum not in self.eviction_thresholds or key_hash < self.eviction_thresholds[stratum]:
            self._add(key_hash, offset, stratum)
            self._evict(self._largest_stratum())

    def discard(self, key_hash: int) -> None:
        """Remove a key, if it is in the sample."""
        entry = self.entries.pop(key_hash, None)
        if entry is not None:
            self._decrement_count(entry[1])

    def resize(self, size: int) -> None:
        """Set another size. Keys that left a smaller sample don't come back to a larger one."""
        self.size = size
        while len(self.entries) > size:
            self._evict(self._largest_stratum())

    def before(self, end: int) -> list[tuple[int, int, str]]:
        """(key hash, offset, stratum) of the keys whose latest example is before the journal offset `end`."""
        return [(key, offset, stratum) for key, (offset, stratum) in self.entries.items() if offset < end]

    def _add(self, key_hash: int, offset: int, stratum: str) -> None:
        self.entries[key_hash] = (offset, stratum)
        heap = self.heaps.setdefault(stratum, [])
        heapq.heappush(heap, -key_hash)
        count = self.counts[stratum] = self.counts.get(stratum, 0) + 1
        self.max_count = max(self.max_count, count)
        if len(heap) > 2 * count + 64:
            self.heaps[stratum] = sorted(-key for key, entry in self.entries.items() if entry[1] == stratum)

    def _evict(self, stratum: str) -> None:
        """Remove the key of a stratum that has the largest hash."""
        heap = self.heaps[stratum]
        while (entry := self.entries.get(-heap[0])) is None or entry[1] != stratum:
            heapq.heappop(heap)
        evicted = -heapq.heappop(heap)
        del self.entries[evicted]
        self.eviction_thresholds[stratum] = min(evicted, self.eviction_thresholds.get(stratum, evicted))
        self._decrement_count(stratum)

    def _decrement_count(self, stratum: str) -> None:
        count = self.counts[stratum]
        if count > 1:
            self.counts[stratum] = count - 1
        else:
            del self.counts[stratum], self.heaps[stratum]
        if count == self.max_count:
            self.max_count = max(self.counts.values(), default=0)

    def _largest_stratum(self) -> str:
        """The stratum with the most keys, the first in alphabetical order of several."""
        return min(stratum for stratum, count in self.counts.items() if count == self.max_count)


def sample_uniform(candidates: Iterable[tuple[int, int]], count: int, seed: int, salt: int) -> tuple[int, ...]:
    """Draw a seeded uniform sample without replacement.

    Args:
        candidates: (key hash, offset) in any order.
        count: Size of the sample, 0 or more. If there are fewer candidates, all are drawn.
        seed, salt: Together they determine the sample.

    Returns:
        Offsets in ascending order.
    """
    chosen = list(candidates)
    ranks = _ranks((key_hash for key_hash, _ in chosen), seed, salt)
    drawn = heapq.nsmallest(count, zip(ranks, (offset for _, offset in chosen), strict=True))
    return tuple(sorted(offset for _, offset in drawn))


def sample_stratified(
    candidates: Iterable[tuple[int, int, str]], count: int, seed: int, salt: int
) -> tuple[int, ...]:
    """Draw a seeded sample without replacement, stratified by label and, within each stratum, by age.

    Args:
        candidates: (key hash, offset, stratum) in any order. The offset gives the age.
        count: Size of the sample, 0 or more. If there are fewer candidates, all are drawn.
        seed, salt: Together they determine the sample.

    Returns:
        Offsets in ascending order. All strata have the same share, and so do the `AGE_BINS` bins of a stratum. A
        stratum or bin that is too small gives all that it has, and the others share the rest.
    """
    rank = _seeded_hash(seed, salt)
    by_age = sorted(candidates, key=itemgetter(1))
    cells: dict[tuple[str, int], list[tuple[bytes, int]]] = {}
    ranks = _ranks((key_hash for key_hash, _, _ in by_age), seed, salt)
    for position, ((_, offset, stratum), ranked) in enumerate(zip(by_age, ranks, strict=True)):
        cell = (stratum, position * AGE_BINS // len(by_age))
        if cell not in cells:
            cells[cell] = []
        cells[cell].append((ranked, offset))
    cell_order = sorted(cells, key=lambda cell: rank(f"{cell[0]}/{cell[1]}".encode()))
    strata = dict.fromkeys(stratum for stratum, _ in cell_order)
    queues = [[sorted(cells[cell])[:count] for cell in cell_order if cell[0] == stratum] for stratum in strata]
    drawn = round_robin([round_robin(bins)[:count] for bins in queues])[:count]
    return tuple(sorted(offset for _, offset in drawn))


def round_robin(queues: Sequence[Sequence[T]]) -> list[T]:
    """The first item of each queue, then the second of each, and so on. Shorter queues are skipped at their end.

    >>> round_robin(["abc", "", "d"])
    ['a', 'd', 'b', 'c']
    """
    longest = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def _seeded_hash(seed: int, salt: int) -> Callable[[bytes], bytes]:
    prefix = f"{seed}:{salt}:".encode()
    return lambda name: blake2b(prefix + name, digest_size=8).digest()


def _ranks(key_hashes: Iterable[int], seed: int, salt: int) -> list[bytes]:
    """`_seeded_hash` of many keys. A trigger ranks all keys of the samples, so this is written for speed."""
    prefix = f"{seed}:{salt}:".encode()
    return [blake2b(prefix + key_hash.to_bytes(8, "big"), digest_size=8).digest() for key_hash in key_hashes]
