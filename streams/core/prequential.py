"""What the scores of the champion say about drift: of its inputs, and of its performance.

    score of the champion on its holdout ──> reference ──┐
    score on new examples ──> once each ──> detectors ───┴──> statistics, how often in a row over the threshold

Only scores of the champion count. A new champion begins without a reference, and its trainer writes one first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from schemas.journal import ExampleScore, Score
from schemas.policy import Policy
from streams.core.detectors.input_drift import InputDrift
from streams.core.detectors.performance_drift import PerformanceDrift

MAX_PROJECTION = 64
"""Longest projection that is taken."""
MAX_TASKS = 8
"""Most tasks that are taken of an example."""


class Prequential(msgspec.Struct, kw_only=True):
    """What is known from the scores of one champion.

    Attributes:
        inputs, performance: The detectors.
        reference_end: The journal offset after the latest example of the reference.
        end: The journal offset after the latest new example that was scored.
        input_drift, performance_drift: The latest measurements.
        inputs_over, performance_over: How many of the latest measurements in a row reached the threshold.
        inputs_armed: Whether the rule `input_drift` may trip; `performance` begins anew instead.
    """

    inputs: InputDrift
    performance: PerformanceDrift
    reference_end: int = 0
    end: int = 0
    input_drift: float = 0.0
    performance_drift: float = 0.0
    inputs_over: int = 0
    performance_over: int = 0
    inputs_armed: bool = True

    def take(self, score: Score, policy: Policy) -> None:
        """Take a score of the champion. Examples that were taken before have no effect."""
        if score.reference:
            new = [each for each in score.each if each.offset >= self.reference_end and self._is_usable(each)]
            self.inputs.learn([each.projection for each in new if each.projection])
            self.performance.learn([each.losses for each in new])
            self.reference_end = max([self.reference_end, *(each.offset + 1 for each in new)])
            return
        new = [each for each in score.each if each.offset >= self.end and self._is_usable(each)]
        for each in new:
            self.end = max(self.end, each.offset + 1)
            if each.projection:
                self.inputs.update(each.projection)
            self.performance.update(each.losses)
        if new:
            self._measure(policy)

    def tripped_inputs(self) -> None:
        """A retrain was decided for the inputs: the rule waits until they are back, or for a champion."""
        self.inputs_armed = False

    def tripped_performance(self) -> None:
        """A retrain was decided for the performance: the test begins anew."""
        self.performance.restart()
        self.performance_drift, self.performance_over = 0.0, 0

    def set_policy(self, policy: Policy) -> None:
        """Take over what a policy says about the detectors."""
        self.inputs.resize(policy.input_drift_window)
        self.performance.delta = policy.performance_drift_delta

    def _measure(self, policy: Policy) -> None:
        self.input_drift = self.inputs.statistic
        self.performance_drift = self.performance.statistic
        full = self.inputs.support >= self.inputs.size
        over = full and self.input_drift >= policy.input_drift_threshold
        self.inputs_over = self.inputs_over + 1 if over else 0
        self.inputs_armed = self.inputs_armed or not over
        over = self.performance_drift >= policy.performance_drift_threshold
        self.performance_over = self.performance_over + 1 if over else 0

    def _is_usable(self, each: ExampleScore) -> bool:
        """Whether all numbers are finite, and the projection is as long as those before: else it is passed over."""
        known = self.inputs.reference or self.inputs.window
        fits = len(each.projection) <= MAX_PROJECTION and (
            not known or not each.projection or len(known[0]) == len(each.projection)
        )
        return fits and len(each.losses) <= MAX_TASKS and _all_finite([*each.projection, *each.losses.values()])


def new_prequential(policy: Policy) -> Prequential:
    """What is known of a champion without scores."""
    return Prequential(
        inputs=InputDrift(size=policy.input_drift_window),
        performance=PerformanceDrift(delta=policy.performance_drift_delta),
    )


def _all_finite(numbers: Sequence[float]) -> bool:
    return all(map(math.isfinite, numbers))
