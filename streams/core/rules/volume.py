"""The rule `volume`: there are enough new training examples."""

from __future__ import annotations

from schemas.policy import Policy
from schemas.windows import Measure
from streams.core.rules.inputs import RuleInputs


def volume(inputs: RuleInputs, policy: Policy) -> Measure:
    """Trips if `policy.retrain_examples` training examples came since the latest trigger.

    Before the first champion the limit is `policy.bootstrap_examples`.
    """
    limit = policy.retrain_examples if inputs.champion else policy.bootstrap_examples
    return Measure("volume", float(inputs.fresh_examples), float(limit), inputs.fresh_examples >= limit)
