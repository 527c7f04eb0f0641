"""What happened during a run: the loss of every step, and the scores on the way."""

from __future__ import annotations

import msgspec


class Point(msgspec.Struct, frozen=True):
    """One step.

    Attributes:
        step, epoch: Counted from 1.
        loss: By the mean over the step's examples.
        rate: Share of the full learning rate, 0 to 1.
    """

    step: int
    epoch: int
    loss: float
    rate: float


class History(msgspec.Struct):
    """A run so far.

    Attributes:
        points: Every step, in order.
        scores: Step -> task -> metric -> value on the holdout.
        largest_piece: The most examples computed at a time; smaller than a batch where memory ran out.
    """

    points: list[Point] = []
    scores: dict[int, dict[str, dict[str, float]]] = {}
    largest_piece: int = 0

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.points)
