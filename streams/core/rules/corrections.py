"""The rule `corrections`: feeds have taken back or relabelled what the champion learnt."""

from __future__ import annotations

from schemas.policy import Policy
from schemas.windows import Measure
from streams.core.rules.inputs import RuleInputs


def corrections(inputs: RuleInputs, policy: Policy) -> Measure:
    """Trips if `policy.corrections_examples` of the champion's training examples no longer stand as it learnt them.

    Those that were there at the latest trigger do not count again until a version is promoted. A limit of 0 turns
    the rule off.
    """
    limit = policy.corrections_examples
    value = inputs.corrections - inputs.attempted_corrections
    tripped = bool(inputs.champion) and 0 < limit <= value
    return Measure("corrections", float(value), float(limit), tripped, f"{inputs.corrections} in all")
