"""A label that no example has any more is a reason to retrain, once, and the next champion is without it."""

from __future__ import annotations

import msgspec

from schemas.journal import Example, Promoted, Refused
from schemas.windows import Trigger
from streams.core.detectors.corrections import Corrections
from streams.core.fold import State, fold, restore, snapshot
from tests.streams.core.records import SMALL, example, numbered, tick, training
from tests.streams.core.test_fold import fresh, of

POLICY = msgspec.structs.replace(
    SMALL,
    retrain_examples=1_000,
    drift_threshold=1.0,
    drift_rearm=1.0,
    taxonomy_examples=8,
    reservoir=200,
    champion_age_s=1e12,
)
DEAD, KEPT = training(10, "defense-evasion", "impact"), training(12, "impact", first=100)


def champion() -> State:
    state, outputs = fold(fresh(POLICY), numbered([*DEAD, *KEPT], 1))
    (first,) = of(Trigger, outputs)
    assert first.labels == ("defense-evasion", "impact")
    state, _ = fold(state, [(50, Promoted(trigger=first.id, version="v0001", time_ms=0))])
    return state


def relabelled(examples: list[Example], *labels: str) -> list[Example]:
    return [example(1_000 + n, *labels, key=each.key) for n, each in enumerate(examples)]


def test_a_label_that_vanished_is_a_reason_to_retrain_and_the_next_champion_is_without_it() -> None:
    state, outputs = fold(champion(), [*numbered(relabelled(DEAD[:9], "impact"), 60), (69, tick(0.5))])
    assert not of(Trigger, outputs)
    last = example(2_000, "impact", key=DEAD[9].key)
    state, outputs = fold(restore(snapshot(state)), [(70, last), (71, tick(1))])
    (trigger,) = of(Trigger, outputs)
    (measure,) = (each for each in trigger.measures if each.tripped)
    assert (trigger.reason, measure.detail) == ("taxonomy", "no longer in use: defense-evasion")
    assert trigger.labels == ("impact",)
    state, _ = fold(state, [(80, Promoted(trigger=trigger.id, version="v0002", time_ms=0))])
    assert list(state.champion_labels) == ["impact"]
    _, outputs = fold(state, numbered(training(10, "impact", first=3_000), 90))
    assert not of(Trigger, outputs)
    _, outputs = fold(
        state, numbered(training(10, "defense-evasion", first=4_000), 110)
    )  # a release that brings it back
    assert [each.reason for each in of(Trigger, outputs)] == ["taxonomy"]


def test_a_refused_candidate_without_the_label_is_not_tried_again_for_it() -> None:
    state, outputs = fold(champion(), [*numbered(relabelled(DEAD, "impact"), 60), (70, tick(1))])
    (trigger,) = of(Trigger, outputs)
    refused = Refused(trigger=trigger.id, version=trigger.version, reason="worse", time_ms=0)
    state, _ = fold(state, [(80, refused)])
    _, outputs = fold(state, numbered(training(10, "impact", first=3_000), 90))
    assert not of(Trigger, outputs)
    assert "defense-evasion" in state.champion_labels


def test_the_sample_forgets_sets_of_labels_that_no_key_has() -> None:
    sample = Corrections(size=8)
    for number in range(1_000):
        sample.put(number, (f"label {number}",), number)
        sample.put(0, (f"other {number}",), number)
    assert len(sample.names) <= 2 * 8 + 65
    assert sum(sample.now.values()) == 8


def test_a_label_that_fades_over_several_versions_has_vanished_as_well() -> None:
    sample = Corrections(size=100)
    for number in range(20):
        sample.put(number, ("defense-evasion",), number)
    sample.learn(20)
    for number in range(15):
        sample.put(number, ("stealth",), 20 + number)
    sample.learn(35)
    for number in range(15, 20):
        assert sample.vanished(10) == {}
        sample.put(number, ("stealth",), 40 + number)
    assert sample.vanished(10) == {"defense-evasion": 20}
    sample.learn(100)
    assert (sample.vanished(10), sample.peak) == ({}, {"stealth": 20})


def test_a_label_whose_keys_left_the_sample_has_not_vanished() -> None:
    sample = Corrections(size=20)
    for number in range(20):
        sample.put(1_000 + number, ("impact",), number)
    sample.learn(20)
    for number in range(20):  # smaller hashes take all places
        sample.put(number, ("execution",), 20 + number)
    assert "impact" not in sample.now
    assert sample.vanished(10) == {}
    sample.learn(40)
    assert sample.peak == {"execution": 20}
