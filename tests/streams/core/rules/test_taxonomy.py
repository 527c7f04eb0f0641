"""The rule `taxonomy`: labels that the champion does not know, and labels that vanished."""

from __future__ import annotations

from schemas.policy import Policy
from schemas.windows import Measure
from streams.core.rules.taxonomy import taxonomy
from tests.streams.core.rules.inputs import inputs

POLICY = Policy()


def test_it_trips_at_the_number_of_examples_of_the_most_frequent_new_label() -> None:
    assert taxonomy(inputs(new_labels={"a": 3, "b": 20}), POLICY) == Measure("taxonomy", 20.0, 20.0, True, "b")
    assert taxonomy(inputs(new_labels={"a": 19, "b": 19}), POLICY) == Measure("taxonomy", 19.0, 20.0, False, "b")


def test_it_needs_a_champion_and_a_new_label() -> None:
    assert not taxonomy(inputs(new_labels={"a": 20}, champion=""), POLICY).tripped
    assert taxonomy(inputs(), POLICY) == Measure("taxonomy", 0.0, 20.0, False)


def test_it_trips_at_a_label_that_vanished_and_names_it() -> None:
    gone = inputs(vanished_labels={"defense-evasion": 25}, new_labels={"stealth": 24})
    assert taxonomy(gone, POLICY) == Measure("taxonomy", 25.0, 20.0, True, "no longer in use: defense-evasion")
    assert not taxonomy(inputs(vanished_labels={"defense-evasion": 19}), POLICY).tripped
