"""The rule `volume`: enough new training examples."""

from __future__ import annotations

from schemas.policy import Policy
from schemas.windows import Measure
from streams.core.rules.volume import volume
from tests.streams.core.rules.inputs import inputs

POLICY = Policy()


def test_the_first_version_has_a_limit_of_its_own() -> None:
    policy = Policy(bootstrap_examples=5, retrain_examples=9)
    assert volume(inputs(fresh_examples=5, champion=""), policy) == Measure("volume", 5.0, 5.0, True)
    assert volume(inputs(fresh_examples=8), policy) == Measure("volume", 8.0, 9.0, False)
    assert volume(inputs(fresh_examples=9), policy) == Measure("volume", 9.0, 9.0, True)
