"""Corrections: what the champion learnt and no longer stands, exact in small and estimated in large."""

from __future__ import annotations

import msgspec

from schemas.journal import Promoted, key_hash
from schemas.windows import Trigger
from streams.core.detectors.corrections import Corrections
from streams.core.fold import fold, restore, snapshot
from tests.streams.core.records import SMALL, example, numbered, training
from tests.streams.core.test_fold import fresh, of


def learnt(keys: int, size: int) -> Corrections:
    """The sample of a champion that learnt so many keys."""
    found = Corrections(size=size)
    for number in range(keys):
        found.put(key_hash(str(number)), ("impact",), number)
    found.learn(keys)
    return found


def test_what_was_retracted_or_relabelled_counts_and_an_edit_or_a_new_key_does_not() -> None:
    found = learnt(20, 100)
    found.put(key_hash("1"), ("impact",), 30)  # another text
    found.put(key_hash("new"), ("impact",), 31)
    assert found.count() == 0
    found.put(key_hash("2"), ("execution",), 32)
    found.retract(key_hash("3"), 33)
    assert found.count() == 2
    found.put(key_hash("2"), ("impact",), 34)  # and back
    assert found.count() == 1


def test_a_champion_that_learnt_the_correction_stands_and_one_that_did_not_get_so_far_does_not() -> None:
    found = learnt(20, 100)
    found.put(key_hash("2"), ("execution",), 32)
    found.retract(key_hash("3"), 33)
    found.learn(32)
    assert found.count() == 2
    found.learn(34)
    assert (found.count(), key_hash("3") in found.entries) == (0, False)


def test_beyond_its_size_the_count_is_an_estimate_and_memory_is_bounded() -> None:
    found = learnt(20_000, 2_000)
    for number in range(0, 20_000, 4):
        found.put(key_hash(str(number)), ("execution",), 20_000 + number)
    assert len(found.entries) == 2_000
    assert len(found.heap) <= 2 * 2_000 + 64
    error = (20_000 / 2_000 - 1) ** 0.5 / 5_000**0.5  # relative, one standard error
    assert abs(found.count() / 5_000 - 1) < 4 * error
    assert msgspec.json.decode(msgspec.json.encode(found), type=Corrections).count() == found.count()


def test_enough_corrections_are_a_reason_to_retrain_once() -> None:
    policy = msgspec.structs.replace(
        SMALL, corrections_examples=4, retrain_examples=1_000, drift_threshold=1.0, drift_rearm=1.0,
        taxonomy_examples=1_000, reservoir=100,
    )  # fmt: skip
    old = training(20, "a")
    state, outputs = fold(fresh(policy), numbered(list(old), 1))
    (first,) = of(Trigger, outputs)
    state, _ = fold(state, [(50, Promoted(trigger=first.id, version="v0001", time_ms=0))])
    relabelled = [example(100 + n, "b", key=each.key) for n, each in enumerate(old[:3])]
    retracted = example(200, key=old[5].key, retracted=True)
    state, outputs = fold(restore(snapshot(state)), numbered([*relabelled, retracted], 51))
    assert not of(Trigger, outputs)
    state, outputs = fold(state, numbered(list(training(7, "a", first=300)), 60))  # a window closes
    (second,) = of(Trigger, outputs)
    measure = next(m for m in second.measures if m.rule == "corrections")
    assert (second.reason, measure.value, measure.detail) == ("corrections", 4.0, "4 in all")
    state, _ = fold(state, [(90, Promoted(trigger=second.id, version="v0002", time_ms=0))])
    assert state.corrections.count() == 0
