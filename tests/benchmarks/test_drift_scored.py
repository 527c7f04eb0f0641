"""The benchmark of drift that needs a champion: what the detectors say of scores, and what a split tactic is."""

from __future__ import annotations

import random

from benchmarks.drift import PARTS, SPLIT
from benchmarks.drift_scored import Scored, outcome_of, with_split_tactic
from schemas.events import Technique
from schemas.journal import Example, ExampleScore, Source
from schemas.models import model_spec
from tests.streams.content.ontology.events import technique

POLICY = model_spec("distilbert-mitre").policy


def scored(number: int, shift: float, seed: int) -> list[Scored]:
    """Examples whose losses and projections are normal variables around a number."""
    rng = random.Random(seed)
    source = Source("threat.test.v1", 0, 0)
    return [
        Scored(
            Example(source=source, key=f"k{n}", hash="00"),
            ExampleScore(
                offset=0,
                losses={"tactics": 20 + shift + rng.gauss(0, 1)},
                projection=tuple(shift + rng.gauss(0, 1) for _ in range(8)),
            ),
        )
        for n in range(number)
    ]


def test_no_rule_fires_where_nothing_changed() -> None:
    found = outcome_of(POLICY, scored(256, 0, 1), scored(1_000, 0, 2))
    assert (found.inputs_after, found.losses_after) == (0, 0)
    assert 0 <= found.inputs < POLICY.input_drift_threshold
    assert 0 <= found.losses < POLICY.performance_drift_threshold
    assert abs(found.rise) < 0.25


def test_both_rules_fire_after_a_change() -> None:
    found = outcome_of(POLICY, scored(256, 0, 1), scored(1_000, 2, 2))
    assert found.inputs_after == 384  # the third record of 64 with a full window
    assert 0 < found.losses_after < found.inputs_after
    assert 1.5 < found.rise < 2.5


def test_a_window_that_is_never_full_has_no_statistic() -> None:
    assert outcome_of(POLICY, scored(256, 0, 1), scored(100, 2, 2)).inputs == -1


def test_a_split_tactic_is_one_of_two_for_each_technique() -> None:
    events = [with_split_tactic(technique(f"T{n}", "x", SPLIT, "impact")) for n in range(1000, 1050)]
    tactics = {each.tactics for each in events if isinstance(each, Technique)}
    assert tactics == {tuple(sorted((part, "impact"))) for part in PARTS}
