"""The champion's scores in the journal become drift of inputs and of performance, and these become triggers."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from schemas.journal import ChampionChange, ExampleScore, PolicyChange, Promoted, Record, Score
from schemas.windows import Trigger
from streams.core.fold import State, fold, restore, rule_measures, snapshot
from tests.streams.core.records import SMALL, training

POLICY = msgspec.structs.replace(
    SMALL,
    retrain_examples=10_000,
    staleness_examples=10_000,
    taxonomy_examples=10_000,
    score_every=1,
    input_drift_window=40,
    input_drift_threshold=0.4,
    input_drift_in_a_row=2,
    performance_drift_threshold=25.0,
)
NO_INPUTS = msgspec.structs.replace(POLICY, input_drift_threshold=0.0)


def score(first: int, number: int, seed: int, *, moved: float = 0.0, loss: float = 0.0, **fields: Any) -> Score:
    """Scores of so many examples; the projections lie elsewhere by `moved`, the losses are higher by `loss`."""
    rng = random.Random(seed)
    each = tuple(
        ExampleScore(
            offset=first + i,
            losses={"tactics": 1.0 + rng.random() + loss},
            projection=tuple(moved + rng.gauss(0, 1) for _ in range(4)),
        )
        for i in range(number)
    )
    return Score(trigger="", **({"version": "v0001", "examples": number, "each": each} | fields))


class Journal:
    """A journal with a champion, to which records are appended."""

    def __init__(self, policy: Any = POLICY) -> None:
        self.state, self.triggers, self.offset = State(model="m"), list[Trigger](), 0
        self.put(PolicyChange(policy), *training(20))
        (trigger,) = self.triggers
        self.put(Promoted(trigger=trigger.id, version="v0001", time_ms=0), *training(10, first=1_000))

    def put(self, *records: Record) -> None:
        for record in records:
            self.state, outputs = fold(self.state, [(self.offset, record)])
            self.triggers += [output for output in outputs if isinstance(output, Trigger)]
            self.offset += 1

    def measure(self, rule: str) -> Any:
        return next(measure for measure in rule_measures(self.state) if measure.rule == rule)


def test_inputs_that_lie_elsewhere_trigger_after_so_many_measurements_in_a_row() -> None:
    journal = Journal()
    journal.put(score(0, 60, 1, reference=True))
    journal.put(score(100, 40, 2), score(140, 40, 3, moved=3.0))
    assert (journal.measure("input_drift").value > 0.4, len(journal.triggers)) == (True, 1)
    journal.put(score(180, 40, 4, moved=3.0))
    trigger = journal.triggers[-1]
    assert (trigger.reason, trigger.offset, trigger.parent) == ("input_drift", journal.offset - 1, "v0001")
    measure = next(m for m in trigger.measures if m.rule == "input_drift")
    assert (measure.tripped, measure.detail) == (True, "2 of 2 in a row, over 40 examples")


def test_losses_that_rise_trigger() -> None:
    journal = Journal(NO_INPUTS)
    journal.put(score(0, 60, 1, reference=True), score(100, 40, 2), score(140, 40, 3, loss=0.5))
    assert journal.triggers[-1].reason == "performance_drift"
    assert journal.measure("performance_drift").value == 0.0  # the test begins anew


def test_what_does_not_drift_triggers_nothing() -> None:
    journal = Journal()
    journal.put(score(0, 200, 1, reference=True))
    journal.put(*(score(1_000 + 40 * i, 40, i) for i in range(2, 30)))
    assert len(journal.triggers) == 1
    assert journal.measure("input_drift").detail == "0 of 2 in a row, over 40 examples"


def test_only_scores_of_the_champion_count_and_each_example_once() -> None:
    journal = Journal()
    journal.put(score(0, 60, 1, reference=True), score(100, 40, 2))
    before = snapshot(msgspec.structs.replace(journal.state, next_offset=0))
    journal.put(score(0, 60, 1, reference=True), score(100, 40, 2), score(200, 40, 3, moved=9.0, version="v0002"))
    assert snapshot(msgspec.structs.replace(journal.state, next_offset=0)) == before


@pytest.mark.parametrize("size", [1, 7, 40])
def test_the_state_of_the_detectors_does_not_depend_on_how_examples_are_put_into_records(size: int) -> None:
    whole, parts = Journal(), Journal()
    whole.put(score(0, 60, 1, reference=True), score(100, 40, 2))
    for record in (score(0, 60, 1, reference=True), score(100, 40, 2)):
        for start in range(0, len(record.each), size):
            parts.put(msgspec.structs.replace(record, each=record.each[start : start + size]))
    assert parts.state.prequential.inputs == whole.state.prequential.inputs
    assert parts.state.prequential.performance == whole.state.prequential.performance


def test_a_new_champion_begins_without_a_reference() -> None:
    journal = Journal()
    journal.put(score(0, 60, 1, reference=True), score(100, 40, 2, moved=9.0))
    change = ChampionChange(version="v0009", action="promoted", by="ada", why="better", request="r", time_ms=0)
    journal.put(change, score(0, 60, 1, reference=True), score(200, 90, 3, moved=9.0))
    assert journal.measure("input_drift").value == 0.0
    assert journal.measure("input_drift").detail == "0 of 2 in a row, over 0 examples"


def test_a_snapshot_in_between_changes_nothing() -> None:
    journal, restored = Journal(), Journal()
    for record in (score(0, 60, 1, reference=True), score(100, 40, 2), score(140, 80, 3, moved=3.0)):
        journal.put(record)
        restored.state = restore(snapshot(restored.state))
        restored.put(record)
    assert snapshot(journal.state) == snapshot(restored.state)


@pytest.mark.parametrize(
    "broken",
    [
        ExampleScore(offset=500, losses={"tactics": 1.0}, projection=(1.0,) * 5),
        ExampleScore(offset=500, losses={"tactics": float("inf")}, projection=(1.0,) * 4),
        ExampleScore(offset=500, losses=dict.fromkeys("abcdefghi", 1.0), projection=(1.0,) * 4),
    ],
)
def test_a_score_that_can_not_be_used_is_passed_over(broken: ExampleScore) -> None:
    journal = Journal()
    journal.put(score(0, 60, 1, reference=True), score(100, 40, 2))
    before = msgspec.json.encode(journal.state.prequential)
    journal.put(Score(trigger="", version="v0001", examples=1, each=(broken,)))
    assert msgspec.json.encode(journal.state.prequential) == before


def test_older_score_records_change_nothing() -> None:
    journal = Journal()
    before = snapshot(msgspec.structs.replace(journal.state, next_offset=0))
    journal.put(Score(trigger=journal.triggers[0].id, version="v0001", examples=20))
    assert snapshot(msgspec.structs.replace(journal.state, next_offset=0)) == before
