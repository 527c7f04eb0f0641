"""The rule `staleness`: the champion is old, and there is something new to learn."""

from __future__ import annotations

from schemas.policy import Policy
from schemas.windows import Measure
from streams.core.rules.inputs import RuleInputs


def staleness(inputs: RuleInputs, policy: Policy) -> Measure:
    """Trips if the latest trigger is `policy.champion_age_s` old.

    At least `policy.staleness_examples` training examples must have come since. The value is the age in seconds, 0
    before the first champion.
    """
    age_s = inputs.since_trigger_s if inputs.champion else 0.0
    tripped = age_s >= policy.champion_age_s and inputs.fresh_examples >= policy.staleness_examples
    return Measure("staleness", age_s, policy.champion_age_s, tripped, f"{inputs.fresh_examples} new examples")
