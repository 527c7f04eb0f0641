"""The rule `backlog`: the latest run was bounded, and left examples for this one."""

from __future__ import annotations

from schemas.policy import Policy
from schemas.windows import Measure
from streams.core.rules.inputs import RuleInputs


def backlog(inputs: RuleInputs, _policy: Policy) -> Measure:
    """Trips if the latest trigger left examples pending. After a refusal the other rules decide."""
    return Measure("backlog", float(inputs.backlog_examples), 1.0, inputs.backlog_examples >= 1)
