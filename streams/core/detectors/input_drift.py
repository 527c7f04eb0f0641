"""Drift of the inputs: whether the champion sees the latest examples as it sees its own.

The values are projections of the champion's embeddings. The statistic is the maximum mean discrepancy (Gretton et
al. 2012) of the latest of them from a reference, with a Gaussian kernel that is approximated by random Fourier
features (Rahimi & Recht 2007). The frequencies of the features are hashes, the same everywhere.

Each number of a projection is measured in standard deviations of the reference, so neither the scale of an
embedding nor its usual direction counts. The width of the kernel follows: the square root of their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from schemas.journal import key_hash

FREQUENCIES = 16
"""Random Fourier features: a cosine and a sine of each."""
MIN_SCALE = 1e-6
"""Least standard deviation of a number of the reference."""
MAX_REFERENCE = 256
"""Values of the reference; further ones are not taken."""
MIN_REFERENCE = 32
"""With fewer values of the reference there is no statistic."""
_HASHES = 2.0**63

Projection = tuple[float, ...]


class InputDrift(msgspec.Struct):
    """The discrepancy of a sliding window from a reference; a `streams.core.detectors.detector.Detector`.

    Attributes:
        size: How many of the latest values it compares, at least 2.
        reference: The values to compare with.
        center, scale: Mean and standard deviation of each number of the reference.
        expected: Mean of the features of the reference.
        window: The latest values, from the oldest at `position` on, wrapping around at the end.
        position: Index of the oldest value, which the next one replaces once the window is full.
    """

    size: int
    reference: list[Projection] = []
    center: list[float] = []
    scale: list[float] = []
    expected: list[float] = []
    window: list[Projection] = []
    position: int = 0

    def learn(self, values: Sequence[Projection]) -> None:
        """Add values to the reference; all have the same length."""
        taken = values[: MAX_REFERENCE - len(self.reference)]
        if not taken:
            return
        self.reference += taken
        columns, count = list(zip(*self.reference, strict=True)), len(self.reference)
        self.center = [math.fsum(column) / count for column in columns]
        variances = (
            math.fsum((x - mean) ** 2 for x in column) / count
            for column, mean in zip(columns, self.center, strict=True)
        )
        self.scale = [max(math.sqrt(variance), MIN_SCALE) for variance in variances]
        self.expected = self._mean_features(self.reference)

    def update(self, value: Projection) -> None:
        """Take the projection of the next example."""
        if len(self.window) < self.size:
            self.window.append(value)
        else:
            self.window[self.position] = value
            self.position = (self.position + 1) % len(self.window)

    @property
    def statistic(self) -> float:
        """The discrepancy divided by the largest there is, the root of 2: 0 (the same) to 1; without bias.

        0 while the reference has fewer than `MIN_REFERENCE` values, or the window fewer than 2.
        """
        if len(self.reference) < MIN_REFERENCE or len(self.window) < 2:
            return 0.0
        found = self._mean_features(self.window)
        squared = math.fsum((a - b) ** 2 for a, b in zip(found, self.expected, strict=True))
        noise = (1 - _squared(found)) / (len(self.window) - 1)
        noise += (1 - _squared(self.expected)) / (len(self.reference) - 1)
        return round(math.sqrt(max(squared - noise, 0.0) / 2), 6)

    @property
    def support(self) -> int:
        """Values in the window; 0 while the reference has fewer than `MIN_REFERENCE`."""
        return len(self.window) if len(self.reference) >= MIN_REFERENCE else 0

    def resize(self, size: int) -> None:
        """Set another size. A smaller window keeps the latest values."""
        oldest_first = self.window[self.position :] + self.window[: self.position]
        self.size, self.window, self.position = size, oldest_first[-size:], 0

    def _mean_features(self, values: Sequence[Projection]) -> list[float]:
        sums = [0.0] * (2 * FREQUENCIES)
        frequencies = _frequencies(len(self.center))
        for value in values:
            scaled = [(x - c) / s for x, c, s in zip(value, self.center, self.scale, strict=True)]
            for i, frequency in enumerate(frequencies):
                angle = sum(map(float.__mul__, frequency, scaled))
                sums[2 * i] += math.cos(angle)
                sums[2 * i + 1] += math.sin(angle)
        root = math.sqrt(FREQUENCIES) * len(values)
        return [total / root for total in sums]


def false_alarm_rate(threshold: float, window: int, reference: int = MAX_REFERENCE) -> float:
    """The largest probability that one measurement reaches a threshold without drift.

    Without drift the squared distance of the two means is, for many values, a sum of squared normal variables with
    weights. No such sum is above a multiple of its expectation more often than one squared normal variable (Székely
    & Bakirov 2003), from the multiple 1.5365 on. Values must not depend on each other.

    Args:
        threshold: Of the statistic, 0 to 1.
        window, reference: Numbers of values, each at least 2.

    >>> false_alarm_rate(0.0, 200), round(false_alarm_rate(0.25, 200), 5)
    (1.0, 0.00011)
    """
    multiple = 1 + 2 * threshold**2 / (1 / (window - 1) + 1 / (reference - 1))
    return math.erfc(math.sqrt(multiple / 2)) if multiple >= 1.5365 else 1.0


def _squared(vector: Sequence[float]) -> float:
    return math.fsum(x * x for x in vector)


@lru_cache(maxsize=8)
def _frequencies(length: int) -> tuple[tuple[float, ...], ...]:
    """(features, length), normal variables with the standard deviation 1 / sqrt(length), by Box & Muller."""
    width = math.sqrt(max(length, 1))
    return tuple(
        tuple(_normal(f"{feature}/{number}") / width for number in range(length)) for feature in range(FREQUENCIES)
    )


def _normal(name: str) -> float:
    """A standard normal variable that depends on a name alone."""
    first, second = ((key_hash(f"{name}/{part}") + 1) / (_HASHES + 1) for part in "ab")
    return math.sqrt(-2.0 * math.log(first)) * math.cos(2.0 * math.pi * second)
