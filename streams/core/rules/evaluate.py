"""The decision to retrain, with the measures of all rules.

    rule               trips if
    manual             a person asked for a retrain
    taxonomy           a label that the champion does not know has enough examples, or one it knows has none left
    drift              the labels of recent examples are far from those of the champion
    performance_drift  the champion's losses on new examples have risen
    input_drift        the champion sees new examples as other than its own
    corrections        enough of what the champion learnt was taken back or relabelled
    volume             there are enough training examples since the latest trigger, or for the first version
    staleness          the latest trigger is old, and there are new examples
    backlog            the latest trigger left examples pending, because a run is bounded

The reason is the first rule of this table that tripped and may decide now. No rule may while a trigger waits for
its verdict or there are no pending examples. Within the cool-down, beyond the budget of a day, and while the
circuit breaker is open only a manual request may; a backlog has a cool-down of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from schemas.policy import Policy
from schemas.windows import Measure, Reason
from streams.core.rules.backlog import backlog
from streams.core.rules.corrections import corrections
from streams.core.rules.drift import drift
from streams.core.rules.input_drift import input_drift
from streams.core.rules.inputs import RuleInputs
from streams.core.rules.manual import manual
from streams.core.rules.performance_drift import performance_drift
from streams.core.rules.staleness import staleness
from streams.core.rules.taxonomy import taxonomy
from streams.core.rules.volume import volume

RULES: Mapping[Reason, Callable[[RuleInputs, Policy], Measure]] = {
    "manual": manual,
    "taxonomy": taxonomy,
    "drift": drift,
    "performance_drift": performance_drift,
    "input_drift": input_drift,
    "corrections": corrections,
    "volume": volume,
    "staleness": staleness,
    "backlog": backlog,
}
"""All rules, in order of precedence."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Whether to retrain.

    Attributes:
        reason: The rule that decided to retrain; None: don't retrain.
        measures: The measures of all rules, in the order of `RULES`.
        why_not: A sentence that says why not to retrain; empty if there is a reason.
    """

    reason: Reason | None
    measures: tuple[Measure, ...]
    why_not: str


def evaluate_rules(inputs: RuleInputs, policy: Policy) -> Decision:
    """Decide whether to retrain."""
    measures = {reason: rule(inputs, policy) for reason, rule in RULES.items()}
    tripped = [reason for reason, measure in measures.items() if measure.tripped]
    blocked = {reason: blocked_reason(inputs, policy, reason) for reason in tripped}
    reason = next((reason for reason in tripped if not blocked[reason]), None)
    why_not = (
        "" if reason else next(iter(blocked.values()), blocked_reason(inputs, policy, None) or "no rule tripped")
    )
    return Decision(reason=reason, measures=tuple(measures.values()), why_not=why_not)


def blocked_reason(inputs: RuleInputs, policy: Policy, reason: Reason | None) -> str:
    """Why a retrain is not possible now, as a sentence; empty if it is possible.

    Args:
        inputs: As for `evaluate_rules`.
        policy: As for `evaluate_rules`.
        reason: The rule that tripped, or None. A manual request need not wait.
    """
    if inputs.open_trigger:
        return f"trigger {inputs.open_trigger} is not answered yet"
    if not inputs.pending_examples:
        return "no training example since the champion's windows"
    return "" if reason == "manual" else _too_soon(inputs, policy, reason)


def _too_soon(inputs: RuleInputs, policy: Policy, reason: Reason | None) -> str:
    """Why a rule must wait: circuit breaker, budget of a day, cool-down; empty if it need not."""
    if pause_s := breaker_left_s(inputs, policy):
        return f"{inputs.refusals} refusals in a row: the circuit breaker is open for another {pause_s:.0f} s"
    if is_budget_used(inputs, policy):
        return f"the budget of {policy.retrains_per_day} retrains a day is used up"
    cooldown_s = policy.backlog_cooldown_s if reason == "backlog" else policy.cooldown_s
    rest_s = cooldown_s - inputs.since_trigger_s
    if inputs.last_trigger_ms and rest_s > 0:
        return f"cooling down for another {rest_s:.0f} s"
    return ""


def breaker_left_s(inputs: RuleInputs, policy: Policy) -> float:
    """For how long the circuit breaker is still open, in seconds; 0: it is closed."""
    if not (0 < policy.breaker_refusals <= inputs.refusals and inputs.last_trigger_ms):
        return 0.0
    return max(policy.breaker_pause_s - inputs.since_trigger_s, 0.0)


def is_budget_used(inputs: RuleInputs, policy: Policy) -> bool:
    """Whether there were as many retrains within a day as the policy allows."""
    return 0 < policy.retrains_per_day <= inputs.triggers_today
