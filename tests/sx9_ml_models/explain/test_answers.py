"""Where the answers of two versions differ is counted by label and by example, on what is held out."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import BadConfiguration
from schemas.journal import held_out
from sx9_ml_models.explain.answers import Answer, answer_diff, compare
from tests.sx9_ml_models.explain.test_diff import CHILD, FIRST
from tests.sx9_ml_models.rebuild.conftest import models_cache, tiny
from tests.trainers.runs.test_trigger_handler import World, sequence
from tests.trainers.samples import example, examples
from trainers.bases.resolve import Base
from trainers.store.registry import Registry

__all__ = ["models_cache", "tiny"]


def answer(**probabilities: float) -> Answer:
    return {label: (p, p >= 0.5) for label, p in probabilities.items()}


def test_labels_that_were_won_and_lost_are_counted_and_the_largest_change_comes_first() -> None:
    asked = [example(n, ["impact"], key=f"k{n}") for n in range(4)]
    before = [answer(impact=0.9), answer(impact=0.4), answer(impact=0.6, execution=0.7), answer(impact=0.2)]
    after = [answer(impact=0.8), answer(impact=0.6), answer(impact=0.1, stealth=0.9), answer(impact=0.3)]
    found = compare(asked, before, after)
    assert (found.examples, found.differ) == (4, 2)
    assert [(d.label, d.true, d.before, d.after, d.won, d.lost) for d in found.labels] == [
        ("impact", 4, 2, 2, 1, 1), ("execution", 0, 1, 0, 0, 1), ("stealth", 0, 0, 1, 1, 0),
    ]  # fmt: skip
    assert [(each.key, each.label) for each in found.largest] == [("k2", "stealth"), ("k1", "impact")]
    assert (found.largest[0].before, found.largest[0].after) == (("execution", "impact"), ("stealth",))
    assert (found.largest[0].probability_before, found.largest[0].probability_after) == (0.0, 0.9)


def test_two_versions_are_loaded_and_asked_about_all_that_is_held_out(tmp_path: Path, tiny: Base) -> None:
    world = World(tmp_path, tiny, examples(300))
    first, second = sequence(examples(300))
    world.answer(first)
    world.answer(second, epochs=1)
    journal = world.settings().trainer_dir / "journal.sqlite"
    manifests = [world.manifest(version) for version in ("v0001", "v0002")]
    found = answer_diff(world.registry, journal, *manifests)
    assert found.examples == found.held_out == sum(map(held_out, examples(300)))
    assert found.differ >= len(found.largest) > 0
    same = answer_diff(world.registry, journal, manifests[0], manifests[0])
    assert (same.differ, same.labels, same.largest) == (0, (), ())


def test_without_a_copy_of_the_journal_it_says_why_they_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="no trainer of distilbert-mitre has run here"):
        answer_diff(Registry(tmp_path), tmp_path / "none.sqlite", FIRST, CHILD)
