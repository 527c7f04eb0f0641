"""Linear models on TF-IDF features: they learn from words, and constant labels and empty texts are no errors."""

from __future__ import annotations

import numpy as np
import pytest

from trainers.core.baselines.tfidf import ALWAYS, NEVER, tfidf_linear_svm, tfidf_logistic_regression
from trainers.core.metrics.classification import label_matrix

LABELS = ("execution", "impact", "persistence", "unseen")
TRAIN = ["runs a powershell script", "wipes the disk", "runs a shell script", "deletes the disk"]
TRAIN_LABELS = [("execution", "persistence"), ("impact", "persistence")] * 2
TEXTS = ["a script", "the disk"]
TRUTH = label_matrix(TRAIN_LABELS, LABELS)


def test_both_models_learn_words_and_constant_labels() -> None:
    decisions = tfidf_logistic_regression(TRAIN, TRUTH, np.ones_like(TRUTH), TEXTS, 17)
    predicted = tfidf_linear_svm(TRAIN, TRAIN_LABELS, TEXTS, LABELS)
    assert predicted.tolist() == [[1, 0, 1, 0], [0, 1, 1, 0]]
    assert (decisions > 0).tolist() == predicted.astype(bool).tolist()
    assert decisions[:, 2].tolist() == [ALWAYS, ALWAYS]
    assert decisions[:, 3].tolist() == [NEVER, NEVER]


def test_the_logistic_regression_of_a_label_uses_the_masked_examples_only() -> None:
    mask = np.ones_like(TRUTH)
    mask[[0, 2], 0] = False
    decisions = tfidf_logistic_regression(TRAIN, TRUTH, mask, TEXTS, 17)
    assert decisions[:, 0].tolist() == [NEVER, NEVER], "no example with the label is left"


@pytest.mark.parametrize("train", [[], ["", " "], ["-", "!"]], ids=["no texts", "blank texts", "no words"])
def test_without_words_nothing_is_predicted(train: list[str]) -> None:
    labels = [("execution",)] * len(train)
    truth = label_matrix(labels, LABELS)
    assert not tfidf_linear_svm(train, labels, TEXTS, LABELS).any()
    assert (tfidf_logistic_regression(train, truth, np.ones_like(truth), TEXTS, 17) == NEVER).all()


def test_no_texts_to_classify_give_no_rows() -> None:
    assert tfidf_linear_svm(TRAIN, TRAIN_LABELS, [], LABELS).shape == (0, 4)
    assert tfidf_logistic_regression(TRAIN, TRUTH, np.ones_like(TRUTH), [], 17).shape == (0, 4)
