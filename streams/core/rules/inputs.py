"""What the rules decide on: a summary of the state of the fold."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class RuleInputs(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs of all rules at the moment of one decision.

    Attributes:
        now_ms: Time of the latest tick, in ms since 1970 UTC; 0 before the first.
        last_trigger_ms: Time of the latest trigger; 0 before the first.
        champion: Name of the champion; empty before the first.
        fresh_examples: Training examples that no trigger has taken yet.
        backlog_examples: How many of them the latest trigger left pending; 0 after a refusal.
        pending_examples: Training examples since the windows that the champion was trained on.
        triggers_today: Triggers within the last 24 hours, up to the budget of the policy.
        refusals: Refusals in a row.
        drift: Jensen-Shannon distance of the labels of recent examples from those of the champion, 0 to 1.
        drift_examples: How many of these recent examples the champion was not trained on.
        drift_armed: Whether the drift rule may trip.
        drift_in_a_row: How many measurements in a row reached the threshold.
        input_drift: Discrepancy of recent projections from those of the champion's holdout, 0 to 1.
        input_drift_examples: How many recent ones it rests on.
        input_drift_in_a_row: How many measurements in a row reached the threshold.
        input_drift_armed: Whether the input drift rule may trip.
        performance_drift: Statistic of the Page-Hinkley test of the champion's losses, in standard deviations.
        performance_drift_examples: How many examples it rests on.
        performance_drift_in_a_row: How many measurements in a row reached the threshold.
        corrections: How many of the champion's training examples no longer stand as it learnt them.
        attempted_corrections: How many of them were there at the latest trigger.
        new_labels: Label -> pending examples, for labels unknown to the champion and to the latest attempt.
        vanished_labels: Label -> examples that had it, for labels of the champion that no example has any
            more, unless the latest attempt was without them.
        open_trigger: Id of the trigger that waits for its verdict; empty if there is none.
        manual_request: Id of the manual request that waits for a trigger; empty if there is none.
    """

    now_ms: int
    last_trigger_ms: int
    champion: str
    fresh_examples: int
    backlog_examples: int
    pending_examples: int
    triggers_today: int
    refusals: int
    drift: float
    drift_examples: int
    drift_armed: bool
    drift_in_a_row: int
    input_drift: float
    input_drift_examples: int
    input_drift_in_a_row: int
    input_drift_armed: bool
    performance_drift: float
    performance_drift_examples: int
    performance_drift_in_a_row: int
    corrections: int
    attempted_corrections: int
    new_labels: Mapping[str, int]
    vanished_labels: Mapping[str, int]
    open_trigger: str
    manual_request: str

    @property
    def since_trigger_s(self) -> float:
        """Time since the latest trigger, in seconds; since 1970 if there was none."""
        return (self.now_ms - self.last_trigger_ms) / 1000
