"""The rule `drift`: the labels of recent examples differ from those that the champion was trained on."""

from __future__ import annotations

from schemas.policy import Policy
from schemas.windows import Measure
from streams.core.rules.inputs import RuleInputs


def drift(inputs: RuleInputs, policy: Policy) -> Measure:
    """Trips if the drift is `policy.drift_threshold` or more, over at least `policy.drift_min_support` examples.

    So many measurements in a row as `policy.drift_in_a_row` must reach the threshold. The rule needs a champion to
    compare with, and must be armed: after it has tripped, the drift must fall below `policy.drift_rearm` or a new
    champion must be promoted before it can trip again.
    """
    supported = bool(inputs.champion) and inputs.drift_examples >= policy.drift_min_support
    tripped = supported and inputs.drift_armed and inputs.drift >= policy.drift_threshold
    tripped = tripped and inputs.drift_in_a_row >= policy.drift_in_a_row
    detail = f"{'over' if supported else 'only'} {inputs.drift_examples} examples"
    if policy.drift_in_a_row > 1:
        detail += f", {inputs.drift_in_a_row} of {policy.drift_in_a_row} in a row"
    if not inputs.drift_armed:
        detail += ", disarmed"
    return Measure("drift", inputs.drift, policy.drift_threshold, tripped, detail)
