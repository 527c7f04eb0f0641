"""A bounded sample of the latest version of every key seen: the keys whose hashes are smallest.

Bottom-k sampling (Cohen & Kaplan, 2007): while nothing is retracted, which keys are in depends on the
set of keys alone, not on their order or number of edits, so the sample is uniform over keys. A superseded example
is replaced in place; a retracted one leaves, and its place goes to the next key that comes. The same records
always give the same sample.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable

import msgspec


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


def pick(candidates: Iterable[tuple[int, int]], count: int, seed: int, salt: int) -> tuple[int, ...]:
    """A seeded sample without replacement.

    Args:
        candidates: (key hash, offset) pairs in any order.
        count: How many at most.
        seed, salt: The same pair gives the same sample; another salt, another sample.

    Returns:
        Offsets, ascending.
    """
    prefix = f"{seed}:{salt}:".encode()

    def rank(pair: tuple[int, int]) -> bytes:
        return hashlib.blake2b(prefix + pair[0].to_bytes(8, "big"), digest_size=8).digest()

    chosen = heapq.nsmallest(count, candidates, key=rank)
    return tuple(sorted(offset for _, offset in chosen))
