"""Classification metrics, compared with values computed by hand."""

from __future__ import annotations

import pytest

from trainers.core.metrics.classification import (
    classification_scores,
    extend_labels,
    label_matrix,
    most_frequent_labels,
)

LABELS = ("execution", "impact", "persistence")


def test_scores_are_those_computed_by_hand() -> None:
    truth = label_matrix([("execution",), ("execution", "impact"), ("impact",)], LABELS)
    predicted = label_matrix([("execution",), ("execution",), ("persistence",)], LABELS)
    scores = classification_scores(truth, predicted, LABELS)
    assert scores.examples == 3
    assert scores.labels["execution"].f1 == 1.0
    assert scores.labels["impact"].f1 == 0.0
    assert scores.labels["impact"].support == 2
    assert scores.metrics["micro_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 2))
    assert scores.metrics["macro_f1"] == 0.5, "persistence does not occur and does not count"


def test_a_label_that_the_model_does_not_know_counts_as_missed() -> None:
    everything = extend_labels(("execution",), [("impact",), ("execution",)])
    assert everything == ("execution", "impact")
    truth = label_matrix([("impact",), ("execution",)], everything)
    predicted = label_matrix([(), ("execution",)], everything)
    assert classification_scores(truth, predicted, everything).metrics["macro_f1"] == 0.5


def test_no_examples_score_zero() -> None:
    nothing = label_matrix([], LABELS)
    assert classification_scores(nothing, nothing, LABELS).metrics["micro_f1"] == 0.0
    assert classification_scores(nothing, nothing, LABELS).labels == {}


def test_the_trivial_baseline_predicts_as_many_labels_as_an_example_has() -> None:
    assert most_frequent_labels([("a", "b"), ("a", "b"), ("c", "b")]) == ("b", "a")
    assert most_frequent_labels([]) == ()
