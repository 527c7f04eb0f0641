"""The gate: what passes, what doesn't, and the numbers it leaves."""

from __future__ import annotations

import pytest

from trainers.core.gate import Limits, compare, first, why_refused
from trainers.core.metrics.classification import LabelScore, Scores, label_scores

LIMITS = Limits(margin=0.02, label_margin=0.05, min_examples=50, min_support=20)


def scores(micro: float, macro: float | None = None, examples: int = 500, **labels: tuple[float, int]) -> Scores:
    named = {name: LabelScore(f1, f1, f1, support) for name, (f1, support) in labels.items()}
    figures = {"micro_f1": micro, "macro_f1": micro if macro is None else macro}
    return Scores(examples, figures, named, label_scores(examples, micro, named).errors)


def splits(old: Scores, recent: Scores, holdout: Scores | None = None) -> dict[str, Scores]:
    return {"old": old, "recent": recent, "holdout": holdout or recent}


def failed(candidate: dict[str, Scores], champion: dict[str, Scores]) -> list[str]:
    return [check.name for check in compare(candidate, champion, LIMITS) if not check.passed]


def test_an_equal_candidate_passes() -> None:
    same = splits(scores(0.8, impact=(0.7, 100)), scores(0.8, impact=(0.7, 100)))
    checks = compare(same, same, LIMITS)
    assert [check.name for check in checks] == [
        "old/micro-f1", "old/macro-f1", "old/impact", "recent/micro-f1", "recent/macro-f1", "recent/impact",
    ]  # fmt: skip
    assert all(check.passed for check in checks)


@pytest.mark.parametrize("worse", ["old", "recent"])
def test_a_loss_beyond_the_margin_on_either_split_refuses(worse: str) -> None:
    champion = splits(scores(0.95), scores(0.95))
    candidate = champion | {worse: scores(0.92, 0.95)}
    assert failed(candidate, champion) == [f"{worse}/micro-f1"]
    assert failed(champion | {worse: scores(0.931, 0.95)}, champion) == []


def test_one_label_that_collapses_refuses_even_if_the_averages_hold() -> None:
    champion = splits(scores(0.9, impact=(0.9, 100)), scores(0.9))
    candidate = splits(scores(0.9, impact=(0.7, 100)), scores(0.9))
    assert failed(candidate, champion) == ["old/impact"]
    assert why_refused(compare(candidate, champion, LIMITS)) == (
        "old/impact 0.700 is below 0.900 - 0.060 (100 examples)"
    )


def test_a_label_with_little_support_is_not_judged_by_itself() -> None:
    champion = splits(scores(0.9, impact=(0.9, 19)), scores(0.9))
    assert failed(splits(scores(0.9, impact=(0.0, 19)), scores(0.9)), champion) == []


def test_margins_grow_as_support_shrinks() -> None:
    champion = splits(scores(0.8, examples=100), scores(0.8, examples=10_000))
    checks = {check.name: check.margin for check in compare(champion, champion, LIMITS)}
    assert checks["old/micro-f1"] == pytest.approx(0.04)
    assert checks["recent/micro-f1"] == 0.02


def test_a_split_that_is_too_small_is_judged_with_the_other() -> None:
    champion = splits(scores(0.9, examples=49), scores(0.9, examples=400), scores(0.9, examples=449))
    candidate = splits(scores(0.0, examples=49), scores(0.9, examples=400), scores(0.85, examples=449))
    assert failed(candidate, champion) == ["holdout/micro-f1", "holdout/macro-f1"]


def test_too_small_a_holdout_refuses() -> None:
    few = splits(scores(0.9, examples=9), scores(0.9, examples=40), scores(0.9, examples=49))
    assert failed(few, few) == ["holdout/examples"]


def test_the_first_version_must_beat_the_most_frequent_labels() -> None:
    baseline = {"holdout": scores(0.3, 0.05)}
    assert all(check.passed for check in first({"holdout": scores(0.5, 0.4)}, baseline, LIMITS))
    assert why_refused(first({"holdout": scores(0.34, 0.4)}, baseline, LIMITS)) == (
        "first/micro-f1 0.340 is below 0.300 + 0.050 (500 examples)"
    )


def test_severity_is_judged_by_itself_and_can_refuse() -> None:
    good, bad = scores(0.9), scores(0.8)
    severe = {f"{split}_severity": good for split in ("old", "recent", "holdout")}
    champion = splits(good, good) | severe
    assert failed(champion, champion) == []
    assert failed(champion | {"recent_severity": bad}, champion) == [
        "recent_severity/micro-f1",
        "recent_severity/macro-f1",
    ]
    assert failed(champion | {"recent": bad}, champion) == ["recent/micro-f1", "recent/macro-f1"]


def test_a_task_with_too_small_a_holdout_leaves_the_other_to_judge() -> None:
    none, some = splits(*[scores(0.0, examples=0)] * 3), scores(0.9)
    severe = {f"{split}_severity": some for split in ("old", "recent", "holdout")}
    assert failed(none | severe, none | severe) == []
    worse = severe | {"old_severity": scores(0.5)}
    assert failed(none | worse, none | severe) == ["old_severity/micro-f1", "old_severity/macro-f1"]


def test_the_first_version_needs_a_holdout() -> None:
    checks = first({"holdout": scores(0.9, examples=10)}, {"holdout": scores(0.1, examples=10)}, LIMITS)
    assert [check.name for check in checks if not check.passed] == ["holdout/examples"]
