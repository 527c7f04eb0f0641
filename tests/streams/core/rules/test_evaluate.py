"""The decision: the first rule that tripped, unless something blocks it."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from schemas.policy import Policy
from schemas.windows import Reason
from streams.core.rules.evaluate import RULES, blocked_reason, evaluate_rules
from tests.streams.core.rules.inputs import DAY_MS, inputs

TRIPS: dict[Reason, dict[str, Any]] = {
    "manual": {"manual_request": "r1"},
    "taxonomy": {"new_labels": {"reconnaissance": 20}},
    "drift": {"drift": 0.25, "drift_examples": 200},
    "input_drift": {"input_drift": 0.3, "input_drift_in_a_row": 3},
    "performance_drift": {"performance_drift": 50.0, "performance_drift_in_a_row": 1},
    "corrections": {"corrections": 30, "attempted_corrections": 10},
    "volume": {"fresh_examples": 1_000},
    "staleness": {"last_trigger_ms": 70 * DAY_MS, "fresh_examples": 50},
    "backlog": {"backlog_examples": 1},
}


POLICY = Policy(corrections_examples=20, input_drift_threshold=0.3, performance_drift_threshold=50.0)


def test_every_reason_has_a_rule_which_gives_its_measure() -> None:
    assert set(RULES) == set(get_args(Reason))
    assert [rule(inputs(), Policy()).rule for rule in RULES.values()] == list(RULES)


def test_without_a_tripped_rule_the_decision_says_so_and_has_all_measures() -> None:
    decision = evaluate_rules(inputs(), Policy())
    assert (decision.reason, decision.why_not) == (None, "no rule tripped")
    assert [measure.rule for measure in decision.measures] == list(RULES)


@pytest.mark.parametrize("reason", TRIPS)
def test_the_rule_that_tripped_is_the_reason(reason: Reason) -> None:
    decision = evaluate_rules(inputs(**TRIPS[reason]), POLICY)
    assert (decision.reason, decision.why_not) == (reason, "")
    assert [measure.rule for measure in decision.measures if measure.tripped] == [reason]


def test_of_several_rules_the_first_of_the_table_is_the_reason() -> None:
    for number, reason in enumerate(RULES):
        fields = [TRIPS[later] for later in list(RULES)[number:]]
        merged = {name: value for one in reversed(fields) for name, value in one.items()}
        assert evaluate_rules(inputs(**merged), POLICY).reason == reason


@pytest.mark.parametrize("reason", TRIPS)
@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"open_trigger": "m@7"}, "trigger m@7 is not answered yet"),
        ({"pending_examples": 0}, "no training example since the champion's windows"),
    ],
)
def test_an_open_trigger_or_nothing_to_train_on_blocks_every_rule(
    reason: Reason, fields: dict[str, Any], sentence: str
) -> None:
    decision = evaluate_rules(inputs(**TRIPS[reason] | fields), POLICY)
    assert (decision.reason, decision.why_not) == (None, sentence)
    assert any(measure.tripped for measure in decision.measures)


def test_the_cool_down_blocks_all_rules_but_a_manual_request() -> None:
    policy = Policy(cooldown_s=2 * 86_400.0)
    assert blocked_reason(inputs(), policy, "volume") == "cooling down for another 86400 s"
    assert blocked_reason(inputs(), policy, "manual") == ""
    assert blocked_reason(inputs(last_trigger_ms=98 * DAY_MS), policy, "volume") == ""
    assert blocked_reason(inputs(last_trigger_ms=0, now_ms=1), policy, "volume") == "", "there was no trigger yet"


def test_a_backlog_does_not_wait_for_the_cool_down_but_for_its_own() -> None:
    policy = Policy(cooldown_s=100 * 86_400.0)
    both = inputs(fresh_examples=1_000, backlog_examples=1_000)
    assert evaluate_rules(both, policy).reason == "backlog"
    later = Policy(cooldown_s=100 * 86_400.0, backlog_cooldown_s=90 * 86_400.0)
    assert "cooling down" in evaluate_rules(both, later).why_not


def test_the_budget_of_a_day_blocks_all_rules_but_a_manual_request() -> None:
    policy = Policy(retrains_per_day=3, cooldown_s=0.0)
    assert blocked_reason(inputs(triggers_today=3), policy, "volume") == "the budget of 3 retrains a day is used up"
    assert blocked_reason(inputs(triggers_today=3), policy, "backlog") != ""
    assert blocked_reason(inputs(triggers_today=2), policy, "volume") == ""
    assert blocked_reason(inputs(triggers_today=3), policy, "manual") == ""
    assert blocked_reason(inputs(triggers_today=3), Policy(cooldown_s=0.0), "volume") == ""


def test_the_circuit_breaker_opens_after_refusals_in_a_row_and_closes_by_itself() -> None:
    policy = Policy(breaker_refusals=2, breaker_pause_s=2 * 86_400.0, cooldown_s=0.0)
    assert "2 refusals in a row" in blocked_reason(inputs(refusals=2), policy, "volume")
    assert blocked_reason(inputs(refusals=1), policy, "volume") == ""
    assert blocked_reason(inputs(refusals=2), policy, "manual") == ""
    assert blocked_reason(inputs(refusals=2, last_trigger_ms=98 * DAY_MS), policy, "volume") == ""
