"""The text regression equals those of scikit-learn and the network; a child keeps its parent's weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from trainers.core.probabilities import softmax
from trainers.models.distilbert import text_regression
from trainers.models.distilbert.hidden_states import attention_mask
from trainers.models.distilbert.network import BIGRAM_BUCKETS, TextRegression
from trainers.models.distilbert.text_regression import Group

VOCABULARY = 50


def texts(number: int, seed: int = 3) -> list[list[int]]:
    """Token ids of texts of 1 to 20 tokens."""
    random = np.random.default_rng(seed)
    return [random.integers(1, VOCABULARY, random.integers(1, 20)).tolist() for _ in range(number)]


def features_of(tokens: list[list[int]]) -> text_regression.Features:
    counts = text_regression.count(tokens, VOCABULARY)
    return text_regression.tfidf(counts, text_regression.inverse_document_frequencies(counts))


def prior(labels: int) -> text_regression.Weights:
    return text_regression.Weights.prior(VOCABULARY + BIGRAM_BUCKETS, labels)


def by_scikit_learn() -> LogisticRegression:
    return LogisticRegression(C=1 / text_regression.PRIOR_PRECISION, fit_intercept=False, tol=1e-8)


def no_report(done: int, groups: int) -> None:
    """Ignore the progress."""


def test_unigrams_and_bigrams_are_counted_and_padding_is_not() -> None:
    counts = text_regression.count([[7, 7, 7, 9], [9]], VOCABULARY)
    assert counts[0, 7] == pytest.approx(1 + np.log(3))
    assert counts[[0, 1], [9, 9]].tolist() == [1, 1]
    assert counts[0].nnz == 4, "two unigrams, and the bigrams (7, 7) and (7, 9)"
    assert counts[1].nnz == 1


def test_the_module_computes_the_fitted_logits() -> None:
    tokens = texts(40)
    counts = text_regression.count(tokens, VOCABULARY)
    idf = text_regression.inverse_document_frequencies(counts)
    random = np.random.default_rng(4)
    mean = random.normal(size=(VOCABULARY + BIGRAM_BUCKETS + 1, 3))
    module = TextRegression(VOCABULARY, 3)
    for parameter, values in (
        (module.weight, mean[:-1]), (module.bias, mean[-1]), (module.idf, idf), (module.scale, [1.0, 2.0, 0.5]),
    ):  # fmt: skip
        parameter.data.copy_(torch.as_tensor(np.array(values)))
    lengths = [len(ids) for ids in tokens]
    padded = torch.tensor([ids + [0] * (max(lengths) - len(ids)) for ids in tokens])
    logits = module(padded, attention_mask(lengths).long()).numpy()
    assert logits == pytest.approx((text_regression.tfidf(counts, idf) @ mean) * [1.0, 2.0, 0.5], abs=1e-4)


def test_one_column_equals_the_logistic_regression_of_scikit_learn() -> None:
    tokens = texts(200)
    features = features_of(tokens)
    truth = np.array([[7 in ids or len(ids) > 15] for ids in tokens])
    found = text_regression.fit(features, truth, [Group([0], range(200))], prior(1), 200, no_report)
    theirs = LogisticRegression(C=1 / text_regression.PRIOR_PRECISION, fit_intercept=False, tol=1e-8).fit(
        features, truth[:, 0]
    )
    assert (features @ found.mean)[:, 0] == pytest.approx(features @ theirs.coef_[0], abs=0.02)


def test_several_columns_are_a_softmax_over_the_rows_of_their_group() -> None:
    tokens = texts(300)
    features = features_of(tokens)
    classes = np.array([sum(ids) % 3 for ids in tokens])
    truth = np.eye(3, dtype=np.bool_)[classes]
    rows = list(range(0, 300, 2))
    found = text_regression.fit(features, truth, [Group([0, 1, 2], rows)], prior(3), 300, no_report)
    theirs = LogisticRegression(C=1 / text_regression.PRIOR_PRECISION, fit_intercept=False, tol=1e-8).fit(
        features[rows], classes[rows]
    )
    ours = softmax(features @ found.mean)
    assert ours == pytest.approx(theirs.predict_proba(features), abs=0.01)


def test_a_child_keeps_the_weights_of_features_that_its_examples_do_not_have() -> None:
    first, second = [[1, 2], [3, 4]] * 100, [[5, 6], [8, 9]] * 100
    counts = text_regression.count(first + second, VOCABULARY)
    features = text_regression.tfidf(counts, text_regression.inverse_document_frequencies(counts))
    truth = np.array([[True], [False]] * 200)
    parent = text_regression.fit(features[:200], truth[:200], [Group([0], range(200))], prior(1), 200, no_report)
    child = text_regression.fit(features[200:], truth[200:], [Group([0], range(200))], parent, 200, no_report)
    assert np.array_equal(child.mean[[1, 2, 3, 4]], parent.mean[[1, 2, 3, 4]])
    predicted = (features @ child.mean)[:, 0] > 0
    assert np.array_equal(predicted, truth[:, 0]), "it predicts by the new words and still by the old ones"


def test_a_parent_of_more_examples_is_changed_less_by_a_few_new_ones() -> None:
    moved = {}
    for seen in (1, 100):
        features = features_of([[1, 2], [1, 2], [1, 2], [1, 2]] * seen)
        truth = np.array([[True], [True], [True], [False]] * seen)
        parent = text_regression.fit(features, truth, [Group([0], range(4 * seen))], prior(1), 4 * seen, no_report)
        child = text_regression.fit(features[:2], ~truth[:2], [Group([0], range(2))], parent, 2, no_report)
        moved[seen] = float(np.abs(child.mean - parent.mean).max())
        assert (child.precision >= parent.precision).all()
    assert moved[100] < moved[1] / 4


def test_examples_that_are_not_fresh_do_not_add_to_the_precision() -> None:
    features, truth = features_of(texts(50)), np.array([[True], [False]] * 25)
    again = text_regression.fit(features, truth, [Group([0], range(50))], prior(1), 0, no_report)
    assert np.array_equal(again.precision, prior(1).precision)
