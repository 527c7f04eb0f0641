"""The rules of drift: so many measurements in a row over the threshold as the policy says."""

from __future__ import annotations

import pytest

from schemas.policy import Policy
from schemas.windows import Measure
from streams.core.rules.drift import drift
from streams.core.rules.input_drift import input_drift
from streams.core.rules.performance_drift import performance_drift
from tests.streams.core.rules.inputs import inputs

POLICY = Policy(
    drift_in_a_row=3, input_drift_threshold=0.3, performance_drift_threshold=50.0, performance_drift_in_a_row=2
)


def test_they_trip_after_the_measurements_in_a_row_that_the_policy_names() -> None:
    found = input_drift(inputs(input_drift=0.4, input_drift_in_a_row=3, input_drift_examples=200), POLICY)
    assert found == Measure("input_drift", 0.4, 0.3, True, "3 of 3 in a row, over 200 examples")
    assert not input_drift(inputs(input_drift=0.4, input_drift_in_a_row=2), POLICY).tripped
    found = performance_drift(inputs(performance_drift=60.0, performance_drift_in_a_row=2), POLICY)
    assert found == Measure("performance_drift", 60.0, 50.0, True, "2 of 2 in a row, over 0 examples")
    assert not performance_drift(inputs(performance_drift=60.0, performance_drift_in_a_row=1), POLICY).tripped


def test_labels_too_have_to_drift_several_times_in_a_row_if_the_policy_says_so() -> None:
    assert not drift(inputs(drift=0.9, drift_examples=200, drift_in_a_row=2), POLICY).tripped
    found = drift(inputs(drift=0.9, drift_examples=200, drift_in_a_row=3), POLICY)
    assert found == Measure("drift", 0.9, 0.25, True, "over 200 examples, 3 of 3 in a row")


@pytest.mark.parametrize("rule", [input_drift, performance_drift])
def test_a_threshold_of_0_turns_them_off(rule: type) -> None:
    values = dict.fromkeys(("input_drift_in_a_row", "performance_drift_in_a_row"), 9)
    assert not rule(inputs(**values), Policy()).tripped  # type: ignore[attr-defined]


def test_a_disarmed_rule_and_one_without_a_champion_do_not_trip() -> None:
    over = {"input_drift": 0.9, "input_drift_in_a_row": 9}
    assert "disarmed" in input_drift(inputs(**over, input_drift_armed=False), POLICY).detail
    assert not input_drift(inputs(**over, input_drift_armed=False), POLICY).tripped
    assert not input_drift(inputs(**over, champion=""), POLICY).tripped
