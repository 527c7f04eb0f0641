"""The rules of retraining.

A policy is a record of the journal, so every decision depends on the log alone. A backtest replaces the policy
and replays the log.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from schemas.errors import BadConfiguration

MAX_SAMPLE = 10_000
"""Largest number of examples in each sample of a trigger, so that the trigger fits a message."""


MAX_INPUT_WINDOW = 2_000
"""Largest number of projections that the fold keeps."""


class GateLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The tolerances of the gate; see `trainers.core.gate`."""

    margin: Annotated[float, Meta(ge=0, le=1, description="smallest tolerated loss of a metric")] = 0.02
    label_margin: Annotated[float, Meta(ge=0, le=1, description="smallest tolerated loss of F1 of one label")] = (
        0.05
    )
    min_examples: Annotated[
        int, Meta(ge=1, description="holdout examples that a split needs to be compared separately")
    ] = 50
    min_support: Annotated[
        int, Meta(ge=1, description="holdout examples that a label needs to be compared by itself")
    ] = 20


class QuarantineRules(msgspec.Struct, frozen=True, kw_only=True):
    """When what a feed sends is set aside; see `streams.core.quarantine`. The first fetch of a feed never is."""

    burst_factor: Annotated[
        float, Meta(ge=0, description="a fetch is a burst from so many times the feed's usual on; 0: never")
    ] = 10.0
    burst_events: Annotated[int, Meta(ge=1, description="events that a burst has at least")] = 1_000
    burst_fetches: Annotated[
        int, Meta(ge=1, le=20, description="earlier fetches of a feed that say what is usual, at least")
    ] = 5
    relabelled_share: Annotated[
        float,
        Meta(ge=0, le=1, description="share of a feed's entities at which relabelling is suspicious; 0: never"),
    ] = 0.05
    relabelled_events: Annotated[
        int, Meta(ge=1, description="relabelled entities that are suspicious, at least")
    ] = 50
    alike_share: Annotated[
        float,
        Meta(ge=0, le=1, description="share of a fetch at which near-duplicates are suspicious; 0: never"),
    ] = 0.5
    alike_events: Annotated[int, Meta(ge=1, description="near-duplicates that are suspicious, at least")] = 100
    loss_excess: Annotated[
        float,
        Meta(
            ge=0,
            description="standard deviations by which the champion does worse on a feed than on all others that "
            "are suspicious; 0: never",
        ),
    ] = 0.0
    loss_events: Annotated[
        int, Meta(ge=1, description="scored events of the feed, and of the others, without which it is never so")
    ] = 50


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """When windows close and when a model is retrained.

    Attributes:
        window_examples: Number of training examples at which a window closes.
        window_age_s: Age in seconds, from tick to tick, at which a non-empty window closes.
        bootstrap_examples: Number of training examples that the first version needs.
        retrain_examples: Volume rule: number of training examples since the last trigger.
        champion_age_s, staleness_examples: Staleness rule: age of the last trigger in seconds, and the least
            number of training examples since then.
        cooldown_s: Least time in seconds between two triggers; a manual request is not bound by it.
        retrains_per_day: Largest number of triggers within 24 hours; a manual request is not bound by it. 0: no
            such budget, as in older records.
        breaker_refusals, breaker_pause_s: Circuit breaker: after this number of refusals in a row, the least time
            in seconds until the next trigger; a manual request is not bound by it. 0 refusals: no circuit breaker,
            as in older records.
        drift_window: Number of most recent examples over which drift is measured.
        drift_min_support: Least number of examples since the champion's windows for a drift value.
        drift_every: Number of examples between two measurements.
        drift_threshold, drift_rearm: Jensen-Shannon distance (0 to 1) at which the drift rule fires, and below
            which it must fall before the rule can fire again (hysteresis).
        drift_in_a_row: Number of measurements in a row that must reach the threshold; 1 in older records.
        score_every: The champion scores one new example in this many, chosen by the hash of the key. 0: none, as in
            older records; then there is no drift of inputs or performance.
        input_drift_window: Number of most recent scored examples that are compared with the champion's holdout.
        input_drift_threshold: Discrepancy (0 to 1) at which the input drift rule fires. 0: no such rule, as in
            older records.
        input_drift_in_a_row: Number of measurements in a row that must reach it.
        performance_drift_threshold: Statistic of the Page-Hinkley test, in standard deviations of the champion's
            losses, at which the performance drift rule fires. 0: no such rule, as in older records.
        performance_drift_delta: Rise of the mean loss that the test tolerates, in standard deviations.
        performance_drift_in_a_row: Number of measurements in a row that must reach the threshold.
        taxonomy_examples: Number of examples of a label unknown to the champion at which the taxonomy rule
            fires.
        corrections_examples: Corrections rule: number of the champion's training examples that were retracted or
            relabelled since it learnt them. 0: no such rule, as in older records.
        reservoir: Number of keys that the fold keeps for rehearsal; it keeps as many for the holdout.
        rehearsal_examples: Largest number of older examples in a training run, at most `MAX_SAMPLE`.
        holdout_examples: Largest number of holdout examples of each kind (old, recent) in a trigger, at most
            `MAX_SAMPLE`.
        run_examples: Largest number of new examples in a run, in whole windows; the rest stays pending for the
            next. After refusals in a row, a run takes the refused ones again and as many more. 0: no bound, as in
            older records.
        backlog_cooldown_s: Least time in seconds between two triggers of which the second takes what the first left
            pending.
        seed: Seed of the rehearsal sample and of the training run.
        gate: The tolerances of the gate.
        quarantine: When what a feed sends is set aside. Older records have none, and mean the defaults.
        recipe: Field -> value of the configuration of the recipe, as `schemas.recipes.base.recipe_values` gives
            them; a field that is missing has its default. Empty in older records.
    """

    window_examples: int = 250
    window_age_s: float = 7 * 86_400.0
    bootstrap_examples: int = 1_000
    retrain_examples: int = 1_000
    champion_age_s: float = 30 * 86_400.0
    staleness_examples: int = 50
    cooldown_s: float = 3_600.0
    retrains_per_day: int = 0
    breaker_refusals: int = 0
    breaker_pause_s: float = 7 * 86_400.0
    drift_window: int = 400
    drift_min_support: int = 200
    drift_every: int = 50
    drift_threshold: float = 0.25
    drift_rearm: float = 0.15
    drift_in_a_row: int = 1
    score_every: int = 0
    input_drift_window: int = 200
    input_drift_threshold: float = 0.0
    input_drift_in_a_row: int = 3
    performance_drift_threshold: float = 0.0
    performance_drift_delta: float = 0.25
    performance_drift_in_a_row: int = 1
    taxonomy_examples: int = 20
    corrections_examples: int = 0
    reservoir: int = 4_096
    rehearsal_examples: int = 500
    holdout_examples: int = 500
    run_examples: int = 0
    backlog_cooldown_s: float = 0.0
    seed: int = 17
    gate: GateLimits = GateLimits()
    quarantine: QuarantineRules = QuarantineRules()
    recipe: dict[str, Any] = {}

    def checked(self) -> Policy:
        """Return the policy, or raise if a value is out of range.

        Raises:
            BadConfiguration: A field is out of range; the message names the field and the range.
        """
        for name in (
            "window_examples", "bootstrap_examples", "retrain_examples", "drift_window", "drift_every", "reservoir",
            "drift_in_a_row", "input_drift_in_a_row", "performance_drift_in_a_row",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise BadConfiguration(f"policy {name}={getattr(self, name)}: must be at least 1")
        for name in (
            "window_age_s", "champion_age_s", "staleness_examples", "cooldown_s", "drift_min_support",
            "retrains_per_day", "breaker_refusals", "breaker_pause_s",
            "taxonomy_examples", "corrections_examples", "rehearsal_examples", "holdout_examples", "run_examples",
            "backlog_cooldown_s", "score_every", "performance_drift_threshold", "performance_drift_delta",
        ):  # fmt: skip
            if getattr(self, name) < 0:
                raise BadConfiguration(f"policy {name}={getattr(self, name)}: must not be negative")
        for name in ("rehearsal_examples", "holdout_examples"):
            if getattr(self, name) > MAX_SAMPLE:
                raise BadConfiguration(f"policy {name}={getattr(self, name)}: must not be more than {MAX_SAMPLE}")
        if not 0.0 <= self.drift_rearm <= self.drift_threshold <= 1.0:
            raise BadConfiguration(
                f"policy drift_rearm={self.drift_rearm}, drift_threshold={self.drift_threshold}: "
                "must be 0 <= drift_rearm <= drift_threshold <= 1"
            )
        if not 0.0 <= self.input_drift_threshold <= 1.0:
            raise BadConfiguration(
                f"policy input_drift_threshold={self.input_drift_threshold}: must be 0 to 1; 0 turns the rule off"
            )
        if not 2 <= self.input_drift_window <= MAX_INPUT_WINDOW:
            raise BadConfiguration(
                f"policy input_drift_window={self.input_drift_window}: must be 2 to {MAX_INPUT_WINDOW}"
            )
        for small, large, why in _AT_MOST:
            if getattr(self, small) > getattr(self, large) and (large, self.run_examples) != ("run_examples", 0):
                raise BadConfiguration(
                    f"policy {small}={getattr(self, small)}, {large}={getattr(self, large)}: these contradict each "
                    f"other: {why}; lower {small} or raise {large}"
                )
        return self


_AT_MOST = (
    ("drift_min_support", "drift_window", "drift is measured over no more examples than the window has"),
    ("rehearsal_examples", "reservoir", "the fold keeps no more keys than the reservoir has"),
    ("window_examples", "run_examples", "a run takes whole windows"),
    ("holdout_examples", "reservoir", "the fold keeps no more keys than the reservoir has"),
)
"""Field that must not be more than another, and why."""
