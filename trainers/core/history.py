"""What happened during a run: the loss of every step, and the scores during training."""

from __future__ import annotations

import msgspec

HISTORY_FILE = "history.json"
"""The file of a version that holds its `History`."""


class Point(msgspec.Struct, frozen=True):
    """One step of the optimizer.

    Attributes:
        step: Counted from 1.
        epoch: Counted from 1.
        loss: Mean over the examples of the step.
        rate: The learning rate as a share of the configured one, 0 to 1.
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
        micro_batch_size: The most examples that were computed at a time; smaller than a batch where memory ran out.
    """

    points: list[Point] = []
    scores: dict[int, dict[str, dict[str, float]]] = {}
    micro_batch_size: int = 0

    @property
    def step(self) -> int:
        """The number of steps done."""
        return len(self.points)
