"""Bounded samples of the latest version of every key seen: the keys whose hashes are smallest.

    BottomK    of all keys, uniform: to judge on
    StratifiedBottomK     of each stratum its own, the space divided fairly among them: to rehearse

Bottom-k sampling (Cohen & Kaplan, 2007): while nothing is retracted, which keys are in depends on the
set of keys alone, not on their order or number of edits, so the sample is uniform over keys. A superseded example
is replaced in place; a retracted one leaves, and its place goes to the next key that comes. The same records
always give the same sample.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

T = TypeVar("T")

AGES = 4
"""Into so many parts `pick_spread` divides the candidates by age, of equal size."""


class BottomK(msgspec.Struct):
    """At most `size` keys with the journal offset of their latest example.

    Attributes:
        size: Bound.
        offsets: key hash -> offset.
        heap: Negated key hashes, a max-heap of what may have to leave; may name keys that already left.
    """

    size: int
    offsets: dict[int, int] = {}
    heap: list[int] = []

    def put(self, key_hash: int, offset: int) -> None:
        """The latest example of a key is at `offset`."""
        if key_hash in self.offsets:
            self.offsets[key_hash] = offset
        elif len(self.offsets) < self.size:
            self._add(key_hash, offset)
        elif key_hash < self._largest():
            del self.offsets[-heapq.heappop(self.heap)]
            self._add(key_hash, offset)

    def drop(self, key_hash: int) -> None:
        """The key no longer counts."""
        self.offsets.pop(key_hash, None)

    def resize(self, size: int) -> None:
        """Another bound from here on; growing can't bring back keys that left."""
        self.size = size
        while len(self.offsets) > size:
            self._largest()
            del self.offsets[-heapq.heappop(self.heap)]

    def _add(self, key_hash: int, offset: int) -> None:
        self.offsets[key_hash] = offset
        heapq.heappush(self.heap, -key_hash)
        if len(self.heap) > 2 * self.size + 64:
            self.heap = sorted(-key for key in self.offsets)

    def _largest(self) -> int:
        while -self.heap[0] not in self.offsets:
            heapq.heappop(self.heap)
        return -self.heap[0]


class StratifiedBottomK(msgspec.Struct):
    """At most `size` keys, divided among strata: where there is no room, the largest stratum gives up a key.

    A stratum that never was the largest holds all of its keys, so a rare label is not crowded out by a common one.

    Attributes:
        size: Bound on the keys of all strata together.
        places: key hash -> (journal offset of its latest example, stratum).
        heaps: Stratum -> negated key hashes, a max-heap of what may have to leave; as in `BottomK`.
        bars: Stratum -> the smallest key hash that it has given up: while there is no room, only smaller ones come
            in, so that what it holds are always its smallest.
        counts: Stratum -> how many keys it holds, never 0.
        most: The largest count.
    """

    size: int
    places: dict[int, tuple[int, str]] = {}
    heaps: dict[str, list[int]] = {}
    bars: dict[str, int] = {}
    counts: dict[str, int] = {}
    most: int = 0

    def put(self, key_hash: int, offset: int, stratum: str) -> None:
        """The latest example of a key is at `offset`, and in `stratum` now."""
        there = self.places.get(key_hash)
        if there is not None:
            if there[1] == stratum:
                self.places[key_hash] = (offset, stratum)
                return
            self.drop(key_hash)
        if len(self.places) < self.size:
            self._add(key_hash, offset, stratum)
        elif stratum not in self.bars or key_hash < self.bars[stratum]:
            self._add(key_hash, offset, stratum)
            self._give_up(self._largest_stratum())

    def drop(self, key_hash: int) -> None:
        """The key no longer counts."""
        there = self.places.pop(key_hash, None)
        if there is not None:
            self._uncount(there[1])

    def resize(self, size: int) -> None:
        """Another bound from here on; growing can't bring back keys that left."""
        self.size = size
        while len(self.places) > size:
            self._give_up(self._largest_stratum())

    def before(self, offset: int) -> list[tuple[int, int, str]]:
        """(key hash, offset, stratum) of the keys whose latest example is before an offset."""
        return [(key, at, stratum) for key, (at, stratum) in self.places.items() if at < offset]

    def _add(self, key_hash: int, offset: int, stratum: str) -> None:
        self.places[key_hash] = (offset, stratum)
        heap = self.heaps.setdefault(stratum, [])
        heapq.heappush(heap, -key_hash)
        count = self.counts[stratum] = self.counts.get(stratum, 0) + 1
        self.most = max(self.most, count)
        if len(heap) > 2 * count + 64:
            self.heaps[stratum] = sorted(-key for key, place in self.places.items() if place[1] == stratum)

    def _give_up(self, stratum: str) -> None:
        """Let the largest key hash of a stratum go."""
        heap = self.heaps[stratum]
        while (place := self.places.get(-heap[0])) is None or place[1] != stratum:
            heapq.heappop(heap)
        gone = -heapq.heappop(heap)
        del self.places[gone]
        self.bars[stratum] = min(gone, self.bars.get(stratum, gone))
        self._uncount(stratum)

    def _uncount(self, stratum: str) -> None:
        count = self.counts[stratum]
        if count > 1:
            self.counts[stratum] = count - 1
        else:
            del self.counts[stratum], self.heaps[stratum]
        if count == self.most:
            self.most = max(self.counts.values(), default=0)

    def _largest_stratum(self) -> str:
        return min(stratum for stratum, count in self.counts.items() if count == self.most)


def pick(candidates: Iterable[tuple[int, int]], count: int, seed: int, salt: int) -> tuple[int, ...]:
    """A seeded sample without replacement.

    Args:
        candidates: (key hash, offset) pairs in any order.
        count: How many at most.
        seed, salt: The same pair gives the same sample; another salt, another sample.

    Returns:
        Offsets, ascending.
    """
    rank = _ranking(seed, salt)
    chosen = heapq.nsmallest(count, candidates, key=lambda pair: rank(_bytes(pair[0])))
    return tuple(sorted(offset for _, offset in chosen))


def pick_spread(candidates: Iterable[tuple[int, int, str]], count: int, seed: int, salt: int) -> tuple[int, ...]:
    """A seeded sample without replacement, spread evenly over strata and, within each, over ages.

    Args:
        candidates: (key hash, offset, stratum) in any order.
        count: How many at most.
        seed, salt: As for `pick`.

    Returns:
        Offsets, ascending. Two strata give the same number, and within one two ages, as far as they have so many.
    """
    rank = _ranking(seed, salt)
    by_age = sorted(candidates, key=lambda candidate: candidate[1])
    cells: dict[tuple[str, int], list[tuple[bytes, int]]] = {}
    for place, (key_hash, offset, stratum) in enumerate(by_age):
        cell = (stratum, place * AGES // len(by_age))
        cells.setdefault(cell, []).append((rank(_bytes(key_hash)), offset))
    order = sorted(cells, key=lambda cell: rank(f"{cell[0]}/{cell[1]}".encode()))
    strata = [[sorted(cells[cell]) for cell in order if cell[0] == stratum] for stratum in _firsts(order)]
    turns = round_robin([round_robin(ages) for ages in strata])
    return tuple(sorted(offset for _, offset in turns[:count]))


def round_robin(queues: Sequence[Sequence[T]]) -> list[T]:
    """One of each queue, then a second of each, and so on.

    >>> round_robin(["abc", "", "d"])
    ['a', 'd', 'b', 'c']
    """
    longest = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def _firsts(cells: Iterable[tuple[str, int]]) -> list[str]:
    return list(dict.fromkeys(stratum for stratum, _ in cells))


def _ranking(seed: int, salt: int) -> Callable[[bytes], bytes]:
    prefix = f"{seed}:{salt}:".encode()
    return lambda name: hashlib.blake2b(prefix + name, digest_size=8).digest()


def _bytes(key_hash: int) -> bytes:
    return key_hash.to_bytes(8, "big")
