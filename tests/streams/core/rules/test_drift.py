"""The rule `drift`: recent labels differ from those of the champion."""

from __future__ import annotations

from schemas.policy import Policy
from schemas.windows import Measure
from streams.core.rules.drift import drift
from tests.streams.core.rules.inputs import inputs

POLICY = Policy()


def test_it_trips_at_the_threshold() -> None:
    found = drift(inputs(drift=0.25, drift_examples=200), POLICY)
    assert found == Measure("drift", 0.25, 0.25, True, "over 200 examples")
    assert not drift(inputs(drift=0.24, drift_examples=200), POLICY).tripped


def test_it_needs_support_a_champion_and_to_be_armed() -> None:
    few = drift(inputs(drift=0.9, drift_examples=199), POLICY)
    assert few == Measure("drift", 0.9, 0.25, False, "only 199 examples")
    assert not drift(inputs(drift=0.9, drift_examples=200, champion=""), POLICY).tripped
    disarmed = drift(inputs(drift=0.9, drift_examples=200, drift_armed=False), POLICY)
    assert disarmed == Measure("drift", 0.9, 0.25, False, "over 200 examples, disarmed")
