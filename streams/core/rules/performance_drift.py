"""The rule `performance_drift`: the champion's losses on what comes have risen."""

from __future__ import annotations

from schemas.policy import Policy
from schemas.windows import Measure
from streams.core.rules.inputs import RuleInputs


def performance_drift(inputs: RuleInputs, policy: Policy) -> Measure:
    """Trips if so many measurements in a row as `policy.performance_drift_in_a_row` reached the threshold.

    That is `policy.performance_drift_threshold`. After it has decided, the test begins anew. A threshold of 0 turns
    the rule off.
    """
    limit, needed = policy.performance_drift_threshold, policy.performance_drift_in_a_row
    over = inputs.performance_drift_in_a_row
    tripped = bool(inputs.champion) and limit > 0 and over >= needed
    detail = f"{over} of {needed} in a row, over {inputs.performance_drift_examples} examples"
    return Measure("performance_drift", inputs.performance_drift, limit, tripped, detail)
