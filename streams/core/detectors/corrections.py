"""How many of the champion's training examples no longer stand as it learnt them: retracted, or relabelled.

The examples are a bottom-k sample of keys (Cohen & Kaplan, 2007), so memory is bounded: up to `size` keys the count
is exact. Beyond, it is an estimate: with n keys and c corrections the relative standard error is about
sqrt((n / size - 1) / c).
"""

from __future__ import annotations

import heapq

import msgspec

from schemas.journal import key_hash
from streams.core.label_counts import add_labels

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
        names: Hash of labels -> the labels; it may still hold some that no entry has.
        learnt: Label -> entries with it, as the champion learnt them.
        now: Label -> entries with it, as they are now.
        peak: Label -> the most entries that had it at one time, less those that were evicted with it; of the labels
            in `learnt` or `now`.
        attempted: Key hash -> its labels when the run was decided that waits for its verdict, for the keys that it
            learns, or forgets. What comes until the verdict, however late that is, the run has not seen.
        fading: The labels in `peak` that no entry had then.
    """

    size: int
    entries: dict[int, tuple[int, int, int]] = {}
    heap: list[int] = []
    is_full: bool = False
    corrected: int = 0
    names: dict[int, tuple[str, ...]] = {}
    learnt: dict[str, int] = {}
    now: dict[str, int] = {}
    peak: dict[str, int] = {}
    attempted: dict[int, int] = {}
    fading: list[str] = []

    def put(self, key: int, labels: tuple[str, ...], offset: int) -> None:
        """Record the latest example of a key, by its hash."""
        if entry := self.entries.get(key):
            self._replace(key, (entry[0], self._signature(labels), offset))
        elif len(self.entries) < self.size or key < self._largest():
            self.entries[key] = (NOTHING, self._signature(labels), offset)
            self._add_now(labels)
            heapq.heappush(self.heap, -key)
            self.resize(self.size)
        else:
            self.is_full = True

    def retract(self, key: int, offset: int) -> None:
        """Record that a key was retracted."""
        if entry := self.entries.get(key):
            self._replace(key, (entry[0], NOTHING, offset))

    def attempt(self, end: int) -> None:
        """A run is decided, which learns what stands before a journal offset."""
        self.attempted = {key: now for key, (_, now, offset) in self.entries.items() if offset < end}
        self.fading = [label for label in self.peak if label not in self.now]

    def settle(self, *, promoted: bool) -> None:
        """The run has its verdict: its version is the champion, or not."""
        attempted, self.attempted = self.attempted, {}
        fading, self.fading = self.fading, []
        if not promoted:
            return
        for key, labels in attempted.items():
            learnt, now, offset = self.entries[key]
            if labels == now == NOTHING:
                self._remove(key)
            elif learnt != labels:
                self._replace(key, (labels, now, offset))
        for label in fading:
            if label not in self.now and label not in self.learnt:
                self.peak.pop(label, None)

    def learn(self, end: int) -> None:
        """A champion has learnt what stands before a journal offset."""
        for key, (_, now, offset) in list(self.entries.items()):
            if offset < end and now == NOTHING:
                self._remove(key)
            elif offset < end:
                self._replace(key, (now, now, offset))
        self.peak = {label: n for label, n in self.peak.items() if label in self.now or label in self.learnt}

    def count(self) -> int:
        """The number of the champion's examples that no longer stand as it learnt them; see the module."""
        if not self.corrected or not self.is_full:
            return self.corrected
        keys = (len(self.entries) - 1) * HASHES / max(self._largest(), 1)
        return round(self.corrected * max(1.0, keys / len(self.entries)))

    def vanished(self, least: int) -> dict[str, int]:
        """The labels that no example has any more, with how many there were.

        Args:
            least: Labels of which there never were as many are left out: they may be in use outside the sample.
        """
        return {label: n for label, n in self.peak.items() if n >= least and label not in self.now}

    def resize(self, size: int) -> None:
        """Set another size. Keys that left a smaller sample don't come back to a larger one."""
        self.size = size
        while len(self.entries) > size:
            self._evict(self._largest())
        if len(self.heap) > 2 * self.size + 64:
            self.heap = sorted(-key for key in self.entries)

    def _replace(self, key: int, entry: tuple[int, int, int]) -> None:
        before = self.entries[key]
        self.corrected += _is_correction(entry) - _is_correction(before)
        self.entries[key] = entry
        self._move(self.learnt, before[0], entry[0])
        if before[1] != entry[1]:
            self._move(self.now, before[1], NOTHING)
            self._add_now(self.names.get(entry[1], ()))

    def _remove(self, key: int) -> None:
        entry = self.entries.pop(key)
        self.attempted.pop(key, None)
        self.corrected -= _is_correction(entry)
        self._move(self.learnt, entry[0], NOTHING)
        self._move(self.now, entry[1], NOTHING)

    def _evict(self, key: int) -> None:
        """Remove a key that is still in use outside the sample: its labels have not vanished."""
        add_labels(self.peak, self.names.get(self.entries[key][1], ()), -1)
        self._remove(key)
        self.is_full = True

    def _move(self, counts: dict[str, int], before: int, after: int) -> None:
        if before != after:
            add_labels(counts, self.names.get(before, ()), -1)
            add_labels(counts, self.names.get(after, ()), 1)

    def _add_now(self, labels: tuple[str, ...]) -> None:
        add_labels(self.now, labels, 1)
        for label in labels:
            self.peak[label] = max(self.peak.get(label, 0), self.now[label])

    def _signature(self, labels: tuple[str, ...]) -> int:
        """A hash of labels that is never `NOTHING`; the labels are kept under it."""
        signature = key_hash("\n".join(sorted(labels))) or 1
        if signature not in self.names:
            if len(self.names) > 3 * len(self.entries) + 64:
                used = {each for entry in self.entries.values() for each in entry[:2]} | {*self.attempted.values()}
                self.names = {each: names for each, names in self.names.items() if each in used}
            self.names[signature] = labels
        return signature

    def _largest(self) -> int:
        while -self.heap[0] not in self.entries:
            heapq.heappop(self.heap)
        return -self.heap[0]


def _is_correction(entry: tuple[int, int, int]) -> bool:
    learnt, now, _ = entry
    return learnt not in (NOTHING, now)
