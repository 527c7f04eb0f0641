"""A backtest decides what the fold of a real journal decides: under the recorded rules, and under other ones."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas.journal import Example, Manual, PolicyChange, Promoted, Record, Refused, Score, Tick
from schemas.models import MODELS
from schemas.policy import Policy
from schemas.windows import Trigger
from streams.core.backtest import Backtest
from streams.core.fold import fold, initial, step
from streams.core.waits import Waits
from tests.streams.core.records import DAY_MS, SMALL, START_MS, example, tick, training

MODEL = MODELS[0]
HOUR_MS = 3_600_000
HALVED = msgspec.structs.replace(SMALL, bootstrap_examples=10, retrain_examples=15, staleness_examples=2)


def events(days: int = 40, per_day: int = 12) -> list[Record]:
    """What comes from outside: ticks every six hours, examples whose labels change, redeliveries, requests."""
    records: list[Record] = []
    number = 0
    for day in range(days):
        for quarter in range(4):
            records.append(tick(day + quarter / 4))
            for _ in range(per_day // 4):
                label = "abc"[number % 3] if day < days // 2 else "cde"[number % 3]
                records.append(example(number, label))
                number += 1
        if day % 9 == 5:
            records += [r for r in records[-6:] if isinstance(r, Example)]
            records.append(Manual(request=f"r{day}", reason="asked", time_ms=0))
    return [*records, tick(days)]


def lived(policy: Policy, answer_after_ms: int, refuse: int = 0) -> list[Record]:
    """The journal of a system that really had these rules: a trainer appends its answers when a run has ended."""
    journal: list[Record] = []
    state = initial(MODEL)

    def append(record: Record) -> None:
        nonlocal state
        state, _ = step(state, len(journal), record)
        journal.append(record)

    append(PolicyChange(policy))
    for record in events():
        waiting = state.open_trigger
        if isinstance(record, Tick) and waiting and record.time_ms >= waiting.at_ms + answer_after_ms:
            answer: dict[str, Any] = {"trigger": waiting.id, "version": waiting.version, "time_ms": record.time_ms}
            append(Score(trigger=waiting.id, version="v", examples=1))
            append(Refused(**answer, reason="worse") if waiting.number == refuse else Promoted(**answer))
        append(record)
    return journal


def triggers_of(journal: list[Record]) -> list[Trigger]:
    return [o for o in fold(initial(MODEL), enumerate(journal))[1] if isinstance(o, Trigger)]


def backtested(journal: list[Record], policy: Policy | None, answer_after_ms: int | None) -> tuple[Any, Any]:
    backtest = Backtest(MODEL, policy, answer_after_ms)
    return backtest, [trigger for at, record in enumerate(journal) for trigger in backtest.feed(at, record)]


def decided(trigger: Trigger) -> Any:
    """All of a trigger but offsets, which differ by the records that the answers take. The digests name content."""
    spans = [(span.examples, span.digest) for span in trigger.spans]
    samples = [len(s) for s in (trigger.rehearsal, trigger.holdout_old, trigger.holdout_recent)]
    return (
        trigger.number, trigger.reason, trigger.at_ms, trigger.parent, spans, samples, trigger.labels,
        trigger.measures, trigger.seed,
    )  # fmt: skip


def test_recorded_rules_and_answers_give_the_recorded_triggers() -> None:
    journal = lived(SMALL, 2 * HOUR_MS, refuse=3)
    backtest, found = backtested(journal, None, None)
    assert found == triggers_of(journal)
    assert len(found) == len(backtest.retrains) > 5
    assert next(r.number for r in backtest.retrains if not r.promoted_ms) == 3


@pytest.mark.parametrize("answer_after_ms", [0, 2 * HOUR_MS, 3 * DAY_MS])
def test_halved_thresholds_decide_as_a_system_that_really_had_them(answer_after_ms: int) -> None:
    recorded = lived(SMALL, 5 * HOUR_MS, refuse=2)
    really = triggers_of(lived(HALVED, answer_after_ms))
    _, found = backtested(recorded, HALVED, answer_after_ms)
    assert [decided(t) for t in found] == [decided(t) for t in really]
    if not answer_after_ms:
        assert len(found) > len(triggers_of(recorded))


def test_every_offset_of_a_trigger_is_one_of_the_recorded_journal() -> None:
    recorded = lived(SMALL, 5 * HOUR_MS)
    _, found = backtested(recorded, HALVED, 0)
    for trigger in found:
        for span in trigger.spans:
            trained = [r for r in recorded[span.start : span.end] if isinstance(r, Example)]
            assert len(trained) >= span.examples > 0
        assert all(isinstance(recorded[at], Example) for at in trigger.rehearsal + trigger.holdout_recent)
    assert len({trigger.id for trigger in found}) == len(found)


def test_every_training_example_is_learnt_or_waits() -> None:
    recorded = lived(SMALL, 5 * HOUR_MS)
    backtest, _ = backtested(recorded, HALVED, HOUR_MS)
    assert backtest.waits.waiting == backtest.state.pending_examples
    assert backtest.waits.learnt == sum(r.examples for r in backtest.retrains if r.promoted_ms)
    assert backtest.waits.learnt + backtest.waits.waiting > 300


def test_a_wait_lasts_from_the_arrival_to_the_promotion() -> None:
    policy = msgspec.structs.replace(SMALL, bootstrap_examples=3)
    first, *rest = training(SMALL.window_examples)
    backtest, _ = backtested([first, tick(0), *rest, tick(10)], policy, 5 * HOUR_MS)
    (retrain,) = backtest.retrains
    assert retrain.promoted_ms == START_MS + 5 * HOUR_MS
    assert backtest.waits.quantile_s(0.5) == pytest.approx(5 * 3600, rel=0.01)


def test_quantiles_of_waits_are_right_to_one_percent_however_many_there_are() -> None:
    waits = Waits()
    for number in range(1, 1_001):
        waits.arrive(number * 1_000)
    for number in range(1, 1_001):
        waits.learn(1, 2 * number * 1_000)
    assert waits.quantile_s(0.5) == pytest.approx(500, rel=0.011)
    assert waits.quantile_s(0.95) == pytest.approx(950, rel=0.011)
    assert (waits.learnt, waits.waiting, len(waits.arrivals)) == (1_000, 0, 0)
    assert len(waits.bins) < 700
