"""Scores against numbers worked out by hand."""

from __future__ import annotations

import pytest

from trainers.core.metrics.classification import all_labels, marks, most_frequent, score

LABELS = ("execution", "impact", "persistence")


def test_scores_are_those_worked_out_by_hand() -> None:
    truth = marks([("execution",), ("execution", "impact"), ("impact",)], LABELS)
    predicted = marks([("execution",), ("execution",), ("persistence",)], LABELS)
    scores = score(truth, predicted, LABELS)
    assert scores.examples == 3
    assert scores.labels["execution"].f1 == 1.0
    assert scores.labels["impact"].f1 == 0.0
    assert scores.labels["impact"].support == 2
    assert scores.figures["micro_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 2))
    assert scores.figures["macro_f1"] == 0.5, "persistence does not occur and does not count"


def test_a_label_that_the_model_does_not_know_counts_as_missed() -> None:
    everything = all_labels(("execution",), [("impact",), ("execution",)])
    assert everything == ("execution", "impact")
    truth = marks([("impact",), ("execution",)], everything)
    assert score(truth, marks([(), ("execution",)], everything), everything).figures["macro_f1"] == 0.5


def test_no_examples_score_zero() -> None:
    nothing = marks([], LABELS)
    assert score(nothing, nothing, LABELS).figures["micro_f1"] == 0.0
    assert score(nothing, nothing, LABELS).labels == {}


def test_the_baseline_names_as_many_labels_as_an_example_has() -> None:
    assert most_frequent([("a", "b"), ("a", "b"), ("c", "b")]) == ("b", "a")
    assert most_frequent([]) == ()
