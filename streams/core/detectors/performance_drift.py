"""Drift of the performance: whether the champion's losses on what comes have risen.

The test is that of Page and Hinkley, by the definition of `river.drift.PageHinkley` (upwards, without forgetting).
A loss is measured in standard deviations from the champion's losses on its holdout, task by task, because the
losses of two tasks can't be compared. These count as the first values of the test; so it also sees a change that
came before the first example.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

MAX_DEVIATIONS = 10.0
"""A single loss counts for no more standard deviations than this."""
MIN_SCALE = 0.01
"""Least standard deviation of the losses of a task."""
MIN_REFERENCE = 20
"""Losses of the reference without which a task does not count."""

Losses = Mapping[str, float]
"""Task -> loss of one example."""


class TaskLosses(msgspec.Struct):
    """Losses of one task: their number, their mean and the sum of squared deviations from it (Welford 1962)."""

    number: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, loss: float) -> None:
        """Count a loss."""
        self.number += 1
        deviation = loss - self.mean
        self.mean += deviation / self.number
        self.squares += deviation * (loss - self.mean)

    def deviations(self, loss: float) -> float:
        """A loss in standard deviations from the mean, at most `MAX_DEVIATIONS` in size."""
        scale = max(math.sqrt(self.squares / max(self.number - 1, 1)), MIN_SCALE)
        return max(-MAX_DEVIATIONS, min(MAX_DEVIATIONS, (loss - self.mean) / scale))


def mean_deviation(reference: Mapping[str, TaskLosses], losses: Losses) -> float | None:
    """Losses of an example in standard deviations, the mean of its tasks.

    Returns:
        None if no task has `MIN_REFERENCE` losses in the reference.
    """
    found = [
        known.deviations(loss)
        for task, loss in losses.items()
        if (known := reference.get(task)) and known.number >= MIN_REFERENCE
    ]
    return math.fsum(found) / len(found) if found else None


class PerformanceDrift(msgspec.Struct):
    """The Page-Hinkley test of losses; a `streams.core.detectors.detector.Detector`.

    Attributes:
        delta: Rise of the mean that is tolerated, in standard deviations, 0 or more.
        reference: Task -> the champion's losses on its holdout.
        learnt: The number of examples in the reference.
        count: Examples since the reference that counted.
        total: Sum of their losses, in standard deviations.
        sum, lowest: The cumulated sum of the test, and its minimum so far.
    """

    delta: float
    reference: dict[str, TaskLosses] = {}
    learnt: int = 0
    count: int = 0
    total: float = 0.0
    sum: float = 0.0
    lowest: float = 0.0

    def learn(self, values: Sequence[Losses]) -> None:
        """Add losses to the reference."""
        for losses in values:
            self.learnt += 1
            for task, loss in losses.items():
                self.reference.setdefault(task, TaskLosses()).add(loss)

    def update(self, value: Losses) -> None:
        """Take the losses of the next example, of the tasks with `MIN_REFERENCE` in the reference."""
        deviation = mean_deviation(self.reference, value)
        if deviation is None:
            return
        self.count += 1
        self.total += deviation
        mean = self.total / (self.learnt + self.count)  # the mean of the reference is 0
        self.sum += deviation - mean - self.delta
        self.lowest = min(self.lowest, self.sum)

    @property
    def statistic(self) -> float:
        """How far the cumulated sum is above its minimum, in standard deviations of a loss; 0 or more."""
        return round(self.sum - self.lowest, 6)

    @property
    def support(self) -> int:
        """Examples since the reference that counted."""
        return self.count

    def restart(self) -> None:
        """Begin the test anew, with the same reference."""
        self.count, self.total, self.sum, self.lowest = 0, 0.0, 0.0, 0.0
