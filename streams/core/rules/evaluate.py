"""Which rules of the policy call for a retrain, with the numbers of all of them.

    rule        trips when
    manual      a person asked
    taxonomy    a label that the champion does not know has enough examples
    drift       the Jensen-Shannon distance of recent labels is at the threshold, and had been below the
                re-arm level since it last tripped
    volume      enough training examples since the last trigger (or for the first version)
    staleness   the last trigger is old, and something has come since

The first that trips, in this order, is the reason. While a trigger is unanswered nothing trips; within the
cool-down only a manual request does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import msgspec

from schemas.policy import Policy
from schemas.windows import Measure, Reason

REASONS: tuple[Reason, ...] = ("manual", "taxonomy", "drift", "volume", "staleness")
if set(REASONS) != set(get_args(Reason)):
    raise AssertionError("every reason of schemas.windows.Reason has its place in the order")


class RuleInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules look at.

    Attributes:
        now_ms, last_trigger_ms: Tick times; `last_trigger_ms` is 0 before the first trigger.
        champion: Name of the serving version, empty before the first.
        fresh: Training examples since the last trigger; `pending` since the champion's windows.
        recent: How many examples the drift statistic is over, and `drift` its value.
        armed: Whether drift may trip.
        new_labels: Label -> pending examples, for labels that neither the champion nor the last attempt knew.
        waiting: Id of the unanswered trigger, or empty.
        request: Id of the manual request waiting, or empty.
    """

    now_ms: int
    last_trigger_ms: int
    champion: str
    fresh: int
    pending: int
    recent: int
    drift: float
    armed: bool
    new_labels: Mapping[str, int]
    waiting: str
    request: str


def judge(now: RuleInputs, policy: Policy) -> tuple[Reason | None, tuple[Measure, ...], str]:
    """Decide whether to retrain.

    Returns:
        The reason, or None; the measures of all rules; and in a sentence why not, empty if it trips.
    """
    measures = (
        Measure("manual", float(bool(now.request)), 1.0, bool(now.request), now.request),
        _taxonomy(now, policy),
        _drift(now, policy),
        _volume(now, policy),
        _staleness(now, policy),
    )
    tripped = {m.rule for m in measures if m.tripped}
    reason = next((r for r in REASONS if r in tripped), None)
    hindrance = _hindrance(now, policy, reason)
    if hindrance:
        return None, measures, hindrance
    return reason, measures, "" if reason else "no rule tripped"


def _hindrance(now: RuleInputs, policy: Policy, reason: Reason | None) -> str:
    if now.waiting:
        return f"trigger {now.waiting} is not answered yet"
    if not now.pending:
        return "no training example since the champion's windows"
    rest_s = policy.cooldown_s - (now.now_ms - now.last_trigger_ms) / 1000
    if reason != "manual" and now.last_trigger_ms and rest_s > 0:
        return f"cooling down for another {rest_s:.0f} s"
    return ""


def _taxonomy(now: RuleInputs, policy: Policy) -> Measure:
    label, most = max(now.new_labels.items(), key=lambda item: (item[1], item[0]), default=("", 0))
    tripped = bool(now.champion) and most >= policy.taxonomy_examples
    return Measure("taxonomy", float(most), float(policy.taxonomy_examples), tripped, label)


def _drift(now: RuleInputs, policy: Policy) -> Measure:
    supported = bool(now.champion) and now.recent >= policy.drift_min_support
    tripped = supported and now.armed and now.drift >= policy.drift_threshold
    detail = f"over {now.recent} examples" if supported else f"only {now.recent} examples"
    return Measure(
        "drift", now.drift, policy.drift_threshold, tripped, detail if now.armed else f"{detail}, disarmed"
    )


def _volume(now: RuleInputs, policy: Policy) -> Measure:
    limit = policy.retrain_examples if now.champion else policy.bootstrap_examples
    return Measure("volume", float(now.fresh), float(limit), now.fresh >= limit)


def _staleness(now: RuleInputs, policy: Policy) -> Measure:
    age_s = (now.now_ms - now.last_trigger_ms) / 1000 if now.champion else 0.0
    tripped = age_s >= policy.champion_age_s and now.fresh >= policy.staleness_examples
    return Measure("staleness", age_s, policy.champion_age_s, tripped, f"{now.fresh} new examples")
