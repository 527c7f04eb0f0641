"""The gate: what passes, what is refused, and the recorded numbers."""

from __future__ import annotations

import pytest

from schemas.scores import Evaluation, LabelScores, TaskScores
from trainers.core.gate import GateLimits, compare, compare_first, why_refused
from trainers.core.metrics.classification import scores_of_labels

LIMITS = GateLimits(margin=0.02, label_margin=0.05, min_examples=50, min_support=20)


def scores(
    micro: float, macro: float | None = None, examples: int = 500, **labels: tuple[float, int]
) -> TaskScores:
    named = {name: LabelScores(f1, f1, f1, support) for name, (f1, support) in labels.items()}
    metrics = {"micro_f1": micro, "macro_f1": micro if macro is None else macro}
    return TaskScores(examples, metrics, named, scores_of_labels(examples, micro, named).errors)


def splits(
    old: TaskScores, recent: TaskScores, holdout: TaskScores | None = None, task: str = "tactics"
) -> Evaluation:
    return {task: {"old": old, "recent": recent, "holdout": holdout or recent}}


def with_split(evaluation: Evaluation, split: str, worse: TaskScores, task: str = "tactics") -> Evaluation:
    return evaluation | {task: evaluation[task] | {split: worse}}


def failed(candidate: Evaluation, champion: Evaluation) -> list[str]:
    return [check.name for check in compare(candidate, champion, LIMITS) if not check.passed]


def test_an_equal_candidate_passes() -> None:
    same = splits(scores(0.8, impact=(0.7, 100)), scores(0.8, impact=(0.7, 100)))
    checks = compare(same, same, LIMITS)
    assert [check.name for check in checks] == [
        "tactics/old/micro_f1", "tactics/old/macro_f1", "tactics/old/impact",
        "tactics/recent/micro_f1", "tactics/recent/macro_f1", "tactics/recent/impact",
    ]  # fmt: skip
    assert all(check.passed for check in checks)


@pytest.mark.parametrize("worse", ["old", "recent"])
def test_a_loss_beyond_the_margin_on_either_split_refuses(worse: str) -> None:
    champion = splits(scores(0.95), scores(0.95))
    candidate = with_split(champion, worse, scores(0.92, 0.95))
    assert failed(candidate, champion) == [f"tactics/{worse}/micro_f1"]
    assert failed(with_split(champion, worse, scores(0.931, 0.95)), champion) == []


def test_one_label_that_collapses_refuses_even_if_the_averages_hold() -> None:
    champion = splits(scores(0.9, impact=(0.9, 100)), scores(0.9))
    candidate = splits(scores(0.9, impact=(0.7, 100)), scores(0.9))
    assert failed(candidate, champion) == ["tactics/old/impact"]
    assert why_refused(compare(candidate, champion, LIMITS)) == (
        "tactics/old/impact 0.700 is below 0.900 - 0.060 (100 examples)"
    )


def test_a_label_with_little_support_is_not_judged_by_itself() -> None:
    champion = splits(scores(0.9, impact=(0.9, 19)), scores(0.9))
    assert failed(splits(scores(0.9, impact=(0.0, 19)), scores(0.9)), champion) == []


def test_margins_grow_as_support_shrinks() -> None:
    champion = splits(scores(0.8, examples=100), scores(0.8, examples=10_000))
    checks = {check.name: check.margin for check in compare(champion, champion, LIMITS)}
    assert checks["tactics/old/micro_f1"] == pytest.approx(0.04)
    assert checks["tactics/recent/micro_f1"] == 0.02


def test_a_split_that_is_too_small_is_judged_with_the_other() -> None:
    champion = splits(scores(0.9, examples=49), scores(0.9, examples=400), scores(0.9, examples=449))
    candidate = splits(scores(0.0, examples=49), scores(0.9, examples=400), scores(0.85, examples=449))
    assert failed(candidate, champion) == ["tactics/holdout/micro_f1", "tactics/holdout/macro_f1"]


def test_too_small_a_holdout_refuses() -> None:
    few = splits(scores(0.9, examples=9), scores(0.9, examples=40), scores(0.9, examples=49))
    assert failed(few, few) == ["holdout/examples"]


def test_the_first_version_must_beat_the_most_frequent_labels() -> None:
    baseline = {"tactics": {"holdout": scores(0.3, 0.05)}}
    assert all(
        check.passed for check in compare_first({"tactics": {"holdout": scores(0.5, 0.4)}}, baseline, LIMITS)
    )
    assert why_refused(compare_first({"tactics": {"holdout": scores(0.34, 0.4)}}, baseline, LIMITS)) == (
        "tactics/first/micro_f1 0.340 is below 0.300 + 0.050 (500 examples)"
    )


def test_severity_is_judged_by_itself_and_can_refuse() -> None:
    good, bad = scores(0.9), scores(0.8)
    champion = splits(good, good) | splits(good, good, task="severity")
    assert failed(champion, champion) == []
    for task in ("severity", "tactics"):
        worse = with_split(champion, "recent", bad, task)
        assert failed(worse, champion) == [f"{task}/recent/micro_f1", f"{task}/recent/macro_f1"]


def test_a_task_with_too_small_a_holdout_leaves_the_other_to_judge() -> None:
    none, some = splits(*[scores(0.0, examples=0)] * 3), scores(0.9)
    champion = none | splits(some, some, task="severity")
    assert failed(champion, champion) == []
    worse = with_split(champion, "old", scores(0.5), "severity")
    assert failed(worse, champion) == ["severity/old/micro_f1", "severity/old/macro_f1"]


def test_the_first_version_needs_a_holdout() -> None:
    few, trivial = ({"tactics": {"holdout": scores(f1, examples=10)}} for f1 in (0.9, 0.1))
    checks = compare_first(few, trivial, LIMITS)
    assert [check.name for check in checks if not check.passed] == ["holdout/examples"]
