"""The rule `staleness`: an old champion, and something new to learn."""

from __future__ import annotations

from schemas.policy import Policy
from schemas.windows import Measure
from streams.core.rules.staleness import staleness
from tests.streams.core.rules.inputs import DAY_MS, inputs

POLICY = Policy()


def test_it_trips_at_an_age_if_there_are_new_examples() -> None:
    old = {"last_trigger_ms": 70 * DAY_MS}
    found = staleness(inputs(fresh_examples=50, **old), POLICY)
    assert found == Measure("staleness", 30 * 86_400.0, 30 * 86_400.0, True, "50 new examples")
    assert not staleness(inputs(fresh_examples=49, **old), POLICY).tripped
    assert not staleness(inputs(fresh_examples=50, last_trigger_ms=71 * DAY_MS), POLICY).tripped


def test_before_the_first_champion_there_is_no_age() -> None:
    assert staleness(inputs(champion="", fresh_examples=50, last_trigger_ms=0), POLICY).value == 0.0
