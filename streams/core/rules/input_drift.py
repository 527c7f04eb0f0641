"""The rule `input_drift`: the champion sees the latest examples as other than its own."""

from __future__ import annotations

from schemas.policy import Policy
from schemas.windows import Measure
from streams.core.rules.inputs import RuleInputs


def input_drift(inputs: RuleInputs, policy: Policy) -> Measure:
    """Trips if `policy.input_drift_in_a_row` measurements in a row were `policy.input_drift_threshold` or more.

    The window must be full, and the rule armed: after it has tripped, one measurement must be below the threshold,
    or a new champion be promoted, before it can trip again. A threshold of 0 turns the rule off.
    """
    limit, needed = policy.input_drift_threshold, policy.input_drift_in_a_row
    over = inputs.input_drift_in_a_row
    tripped = bool(inputs.champion) and limit > 0 and inputs.input_drift_armed and over >= needed
    detail = f"{over} of {needed} in a row, over {inputs.input_drift_examples} examples"
    if not inputs.input_drift_armed:
        detail += ", disarmed"
    return Measure("input_drift", inputs.input_drift, limit, tripped, detail)
