"""The rule `manual`: a person asked."""

from __future__ import annotations

from schemas.policy import Policy
from schemas.windows import Measure
from streams.core.rules.manual import manual
from tests.streams.core.rules.inputs import inputs

POLICY = Policy()


def test_it_trips_while_a_request_waits() -> None:
    assert manual(inputs(manual_request="r1"), POLICY) == Measure("manual", 1.0, 1.0, True, "r1")
    assert manual(inputs(), POLICY) == Measure("manual", 0.0, 1.0, False)
