"""The rules of retraining. They are a journal record themselves, so a decision never depends on a setting
that the log does not know; a backtest replaces them and replays the log."""

from __future__ import annotations

import msgspec

from schemas.errors import BadConfiguration


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """When windows close and when a model is retrained.

    Attributes:
        window_examples: A window closes at this many training examples.
        window_age_s: A tick closes a non-empty window this many seconds after the tick that opened it.
        bootstrap_examples: The first version waits for this many training examples.
        retrain_examples: Volume: this many training examples since the last trigger.
        champion_age_s, staleness_examples: Staleness: the last trigger is this old and at least so many
            training examples have come since.
        cooldown_s: No trigger within this many seconds of the one before (a manual request passes).
        drift_window: Drift is measured over this many most recent examples.
        drift_min_support: Below this many examples since the champion's windows there is no drift statistic.
        drift_every: It is measured every so many examples.
        drift_threshold, drift_rearm: Jensen-Shannon distance (0 to 1) at which it trips, and below which it
            must fall before it can trip again (hysteresis).
        taxonomy_examples: A label the champion does not know trips at this many examples.
        reservoir: How many keys the fold remembers for rehearsal, and as many again for the holdout.
        rehearsal_examples: Older examples mixed into a training run, at most.
        holdout_examples: Holdout examples of each kind (old, recent) named in a trigger, at most.
        seed: Of the rehearsal sample and of the training run.
    """

    window_examples: int = 250
    window_age_s: float = 7 * 86_400.0
    bootstrap_examples: int = 1_000
    retrain_examples: int = 1_000
    champion_age_s: float = 30 * 86_400.0
    staleness_examples: int = 50
    cooldown_s: float = 3_600.0
    drift_window: int = 400
    drift_min_support: int = 200
    drift_every: int = 50
    drift_threshold: float = 0.25
    drift_rearm: float = 0.15
    taxonomy_examples: int = 20
    reservoir: int = 4_096
    rehearsal_examples: int = 500
    holdout_examples: int = 500
    seed: int = 17

    def checked(self) -> Policy:
        """The policy itself.

        Raises:
            BadConfiguration: A field is out of its range, named with the range.
        """
        for name in (
            "window_examples", "bootstrap_examples", "retrain_examples", "drift_window", "drift_every", "reservoir",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise BadConfiguration(f"policy {name}={getattr(self, name)}: must be at least 1")
        for name in (
            "window_age_s", "champion_age_s", "staleness_examples", "cooldown_s", "drift_min_support",
            "taxonomy_examples", "rehearsal_examples", "holdout_examples",
        ):  # fmt: skip
            if getattr(self, name) < 0:
                raise BadConfiguration(f"policy {name}={getattr(self, name)}: must not be negative")
        if not 0.0 <= self.drift_rearm <= self.drift_threshold <= 1.0:
            raise BadConfiguration(
                f"policy drift_rearm={self.drift_rearm}, drift_threshold={self.drift_threshold}: "
                "must be 0 <= drift_rearm <= drift_threshold <= 1"
            )
        return self
