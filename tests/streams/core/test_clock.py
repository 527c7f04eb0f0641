"""The time of the fold: later ticks set a wrong one right."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.journal import PolicyChange, Promoted, Record
from schemas.policy import Policy
from schemas.windows import Trigger
from streams.core.clock import MAX_AHEAD_MS, MAX_TIME_MS, tick_time
from streams.core.fold import State, fold
from tests.streams.core.records import DAY_MS, START_MS, tick, training

STEPS = st.lists(st.integers(0, 100 * DAY_MS), min_size=3, max_size=20)


def time_after(ticks: list[int]) -> int:
    now_ms = behind_ms = 0
    for tick_ms in ticks:
        now_ms, behind_ms = tick_time(now_ms, behind_ms, tick_ms)
    return now_ms


@given(STEPS, st.lists(st.integers(-MAX_AHEAD_MS, 0), min_size=20, max_size=20))
def test_clocks_that_differ_by_less_than_the_limit_never_set_the_time_back(
    steps: list[int], behind: list[int]
) -> None:
    right = [START_MS + total for total in itertools.accumulate(steps)]
    ticks = [each for now, late in zip(right, behind, strict=False) for each in (now, now + late, now + late)]
    assert time_after(ticks) == right[-1]


@given(STEPS, st.data())
def test_the_second_right_tick_after_a_wrong_one_sets_the_time_right(steps: list[int], data: st.DataObject) -> None:
    right = [START_MS + total for total in itertools.accumulate(steps)]
    wrong = data.draw(st.integers(-DAY_MS, 2 * MAX_TIME_MS), label="a tick at any time")
    at = data.draw(st.integers(0, len(right) - 2), label="before this right tick")
    now = time_after([*right[:at], wrong, *right[at:]])
    ahead_by_little = right[-1] < wrong <= right[-1] + MAX_AHEAD_MS
    assert now == (wrong if ahead_by_little else right[-1])


@pytest.mark.parametrize("tick_ms", [0, -1, MAX_TIME_MS + 1, 10**40])
def test_a_tick_that_is_not_a_time_changes_nothing(tick_ms: int) -> None:
    assert tick_time(START_MS, 7, tick_ms) == (START_MS, 7)


POLICY = Policy(
    window_examples=10, bootstrap_examples=20, retrain_examples=20, cooldown_s=9.5 * 86_400, taxonomy_examples=10**6
)


def triggers(wrong_ticks: dict[int, int], days: int = 200) -> list[Trigger]:
    """The triggers of some days with three examples and a tick each; every version is promoted at once."""
    state, found, offset = State(model="m"), list[Trigger](), itertools.count()
    examples = iter(training(3 * days))

    def append(record: Record) -> None:
        nonlocal state
        state, outputs = fold(state, [(next(offset), record)])
        for trigger in outputs:
            if isinstance(trigger, Trigger):
                found.append(trigger)
                append(Promoted(trigger=trigger.id, version=trigger.version, time_ms=0))

    append(PolicyChange(POLICY))
    for day in range(days):
        for record in itertools.islice(examples, 3):
            append(record)
        if day in wrong_ticks:
            append(tick(wrong_ticks[day]))
        append(tick(day))
    return found


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 150), st.integers(300, 36_500))
def test_a_tick_from_a_clock_that_is_ahead_stops_no_retraining(day: int, ahead: int) -> None:
    right, wrong = triggers({}), triggers({day: ahead})
    assert len(right) == 20
    assert abs(len(wrong) - len(right)) <= 1
    assert all(trigger.at_ms <= tick(200).time_ms for trigger in wrong[-3:])
