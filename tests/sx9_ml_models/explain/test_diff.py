"""Two versions are compared on the same examples where they can be, and what differs is named."""

from __future__ import annotations

from typing import Any

from schemas.scores import Evaluation, LabelScores, TaskScores
from schemas.versions import Manifest
from schemas.windows import Span
from sx9_ml_models.explain.diff import VersionDiff, version_diff


def scored(macro_f1: float, **f1s: float) -> Evaluation:
    labels = {name: LabelScores(f1, f1, f1, 9) for name, f1 in f1s.items()}
    return {"tactics": {"holdout": TaskScores(9, {"macro_f1": macro_f1}, labels=labels)}}


def manifest(version: str, **fields: Any) -> Manifest:
    known = {"model": "distilbert-mitre", "trigger": "t", "reason": "volume", "config": {"epochs": 2, "seed": 17}}
    return Manifest(version=version, **known | fields)


FIRST = manifest("v0001", evaluation=scored(0.6, impact=0.6, execution=0.5), labels=("execution", "impact"))
CHILD = manifest(
    "v0002", parent="v0001", evaluation=scored(0.8, impact=0.9, stealth=0.7), labels=("impact", "stealth"),
    parent_evaluation=scored(0.55, impact=0.5), spans=(Span(5, 9, 4, "d"),), examples_trained=4,
    config={"epochs": 3, "seed": 17},
)  # fmt: skip


def changes(diff: VersionDiff) -> dict[str, float | None]:
    return {s.name: None if s.change is None else round(s.change, 3) for s in (*diff.metrics, *diff.labels)}


def test_a_child_is_compared_with_its_parent_on_the_examples_of_the_child() -> None:
    diff = version_diff(FIRST, CHILD)
    assert diff.same_holdout
    assert changes(diff) == {"tactics/macro_f1": 0.25, "tactics/impact": 0.4, "tactics/stealth": None}


def test_others_are_compared_on_the_holdout_of_each_and_it_is_said() -> None:
    diff = version_diff(CHILD, FIRST)
    assert not diff.same_holdout
    assert changes(diff)["tactics/macro_f1"] == -0.2


def test_labels_data_and_configuration_that_differ_are_named_and_nothing_else() -> None:
    diff = version_diff(FIRST, CHILD)
    assert (diff.labels_added, diff.labels_removed) == (("stealth",), ("execution",))
    assert {name: (before, after) for name, before, after in diff.facts} == {
        "parent": ("none", "v0001"), "journal offsets": ("", "5-9"), "examples": ("0", "4"),
        "config epochs": ("2", "3"),
    }  # fmt: skip
    assert version_diff(FIRST, FIRST).facts == ()
