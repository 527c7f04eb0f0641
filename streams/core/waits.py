"""How long examples wait until a version has learnt them, in constant memory."""

from __future__ import annotations

import math
from collections import deque

import msgspec

STEP = 1.01
"""Waits are counted in bins, each of which is one percent longer than the one before."""


class Waits(msgspec.Struct):
    """The waits of examples that were learnt, and the arrivals of those that were not.

    Examples that arrived at the same time are one entry, so the memory grows with the ticks between two retrains,
    not with the examples.

    Attributes:
        arrivals: [arrival in ms, examples] of those that wait, oldest first.
        waiting: The number of examples that wait.
        learnt: The number of examples that were learnt.
        bins: Number of a bin -> examples that waited so long.
    """

    arrivals: deque[list[int]] = msgspec.field(default_factory=deque)
    waiting: int = 0
    learnt: int = 0
    bins: dict[int, int] = {}

    def arrive(self, at_ms: int) -> None:
        """An example came. Before the first tick the time is 0."""
        self.waiting += 1
        if self.arrivals and self.arrivals[-1][0] == at_ms:
            self.arrivals[-1][1] += 1
        else:
            self.arrivals.append([at_ms, 1])

    def first_tick(self, at_ms: int) -> None:
        """What came before the first tick came at the time of that tick."""
        if self.arrivals and not self.arrivals[0][0]:
            self.arrivals[0][0] = at_ms

    def learn(self, count: int, at_ms: int) -> None:
        """The `count` examples that waited longest were learnt."""
        while count > 0 and self.arrivals:
            arrival = self.arrivals[0]
            taken = min(count, arrival[1])
            position = math.ceil(math.log(max(1.0, (at_ms - arrival[0]) / 1000)) / math.log(STEP))
            self.bins[position] = self.bins.get(position, 0) + taken
            self.waiting -= taken
            self.learnt += taken
            count -= taken
            arrival[1] -= taken
            if not arrival[1]:
                self.arrivals.popleft()

    def quantile_s(self, share: float) -> float:
        """The wait in seconds that this share of the learnt examples did not exceed, to one percent; 0 for none."""
        below = 0
        for position in sorted(self.bins):
            below += self.bins[position]
            if below >= share * self.learnt:
                return STEP**position if position else 0.0
        return 0.0

    def oldest_s(self, now_ms: int) -> float:
        """How long the oldest example that was not learnt has waited, seconds; 0 if there is none."""
        return max(0, now_ms - self.arrivals[0][0]) / 1000 if self.arrivals else 0.0
