"""The rule `manual`: a person asked for a retrain."""

from __future__ import annotations

from schemas.policy import Policy
from schemas.windows import Measure
from streams.core.rules.inputs import RuleInputs


def manual(inputs: RuleInputs, _policy: Policy) -> Measure:
    """Trips while a manual request waits for a trigger. The detail is the id of the request."""
    requested = bool(inputs.manual_request)
    return Measure("manual", float(requested), 1.0, requested, inputs.manual_request)
