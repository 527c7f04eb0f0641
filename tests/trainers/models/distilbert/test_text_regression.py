"""The text regression: equal to scikit-learn's, equal to the module that is saved, and what a child keeps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from trainers.core import conditional
from trainers.core.probabilities import softmax
from trainers.models.distilbert import text_regression
from trainers.models.distilbert.hidden_states import attention_mask
from trainers.models.distilbert.network import BIGRAM_BUCKETS, TextRegression, condition_on_at_least_one
from trainers.models.distilbert.text_regression import Group

VOCABULARY = 50


def texts(number: int, seed: int = 3) -> list[list[int]]:
    """Token ids of texts of 1 to 20 tokens."""
    random = np.random.default_rng(seed)
    return [random.integers(1, VOCABULARY, random.integers(1, 20)).tolist() for _ in range(number)]


def features_of(tokens: list[list[int]]) -> text_regression.Features:
    counts = text_regression.count(tokens, VOCABULARY)
    return text_regression.tfidf(counts, text_regression.inverse_document_frequencies(counts))


def unknown(labels: int) -> text_regression.Weights:
    return text_regression.Weights.prior(VOCABULARY + BIGRAM_BUCKETS, labels)


def ignore_progress(done: int, total: int) -> None:
    """Ignore the progress."""


def test_tokens_and_pairs_are_counted_and_padding_is_not() -> None:
    counts = text_regression.count([[7, 7, 7, 9], [9]], VOCABULARY)
    assert counts[0, 7] == pytest.approx(1 + np.log(3))
    assert counts[[0, 1], [9, 9]].tolist() == [1, 1]
    assert counts[0].nnz == 4, "two tokens, and the pairs of 7 with 7 and with 9"
    assert counts[1].nnz == 1


def test_the_module_computes_what_was_fitted() -> None:
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
    said = module(padded, attention_mask(lengths).long()).numpy()
    assert said == pytest.approx((text_regression.tfidf(counts, idf) @ mean) * [1.0, 2.0, 0.5], abs=1e-4)


def test_conditioning_equals_the_enumeration_of_all_cases() -> None:
    logits = torch.tensor([[0.3, -1.2, -4.0, 2.0], [-9.0, -8.0, -7.0, -1.0]], dtype=torch.float64)
    columns = [0, 1, 2]
    for row, found in zip(logits, condition_on_at_least_one(logits, columns).sigmoid(), strict=True):
        p = row.sigmoid().tolist()
        cases = [case for case in itertools.product((0, 1), repeat=3) if any(case)]
        weights = [np.prod([p[i] if case[i] else 1 - p[i] for i in columns]) for case in cases]
        for i in columns:
            share = sum(w for w, case in zip(weights, cases, strict=True) if case[i]) / sum(weights)
            assert found[i].item() == pytest.approx(share)
        assert found[3].item() == pytest.approx(p[3]), "another task's column stays"


def test_conditioning_is_finite_for_extreme_logits() -> None:
    far = condition_on_at_least_one(torch.tensor([[-40.0, -40.0], [60.0, -40.0], [-40.0, 60.0]]), [0, 1]).sigmoid()
    assert far[0].tolist() == pytest.approx([0.5, 0.5], abs=1e-4)
    assert far[1:].tolist() == [[1.0, pytest.approx(0.0, abs=1e-6)], [pytest.approx(0.0, abs=1e-6), 1.0]]
    alone = condition_on_at_least_one(torch.tensor([[-3.0]]), [0])
    assert alone.isfinite().all()
    assert alone.sigmoid().item() == pytest.approx(1.0), "the only label of a text that has one"


def test_one_column_equals_a_logistic_regression_of_scikit_learn() -> None:
    tokens = texts(200)
    features = features_of(tokens)
    truth = np.array([[7 in ids or len(ids) > 15] for ids in tokens])
    found = text_regression.fit(features, truth, [Group([0], range(200))], unknown(1), 200, ignore_progress)
    theirs = LogisticRegression(C=1 / text_regression.PRIOR_PRECISION, fit_intercept=False, tol=1e-8).fit(
        features, truth[:, 0]
    )
    assert (features @ found.mean)[:, 0] == pytest.approx(features @ theirs.coef_[0], abs=0.02)


def test_several_columns_equal_a_multinomial_regression_of_scikit_learn() -> None:
    tokens = texts(300)
    features = features_of(tokens)
    classes = np.array([sum(ids) % 3 for ids in tokens])
    truth = np.eye(3, dtype=np.bool_)[classes]
    rows = list(range(0, 300, 2))
    found = text_regression.fit(features, truth, [Group([0, 1, 2], rows)], unknown(3), 300, ignore_progress)
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
    parent = text_regression.fit(
        features[:200], truth[:200], [Group([0], range(200))], unknown(1), 200, ignore_progress
    )
    child = text_regression.fit(features[200:], truth[200:], [Group([0], range(200))], parent, 200, ignore_progress)
    assert np.array_equal(child.mean[[1, 2, 3, 4]], parent.mean[[1, 2, 3, 4]])
    said = (features @ child.mean)[:, 0] > 0
    assert np.array_equal(said, truth[:, 0]), "it knows the new words, and still the old ones"


def test_a_few_examples_change_a_parent_less_the_more_examples_it_was_trained_on() -> None:
    moved = {}
    for seen in (1, 100):
        features = features_of([[1, 2], [1, 2], [1, 2], [1, 2]] * seen)
        truth = np.array([[True], [True], [True], [False]] * seen)
        parent = text_regression.fit(
            features, truth, [Group([0], range(4 * seen))], unknown(1), 4 * seen, ignore_progress
        )
        child = text_regression.fit(features[:2], ~truth[:2], [Group([0], range(2))], parent, 2, ignore_progress)
        moved[seen] = float(np.abs(child.mean - parent.mean).max())
        assert (child.precision >= parent.precision).all()
    assert moved[100] < moved[1] / 4


def test_examples_that_were_counted_before_do_not_add_precision() -> None:
    features, truth = features_of(texts(50)), np.array([[True], [False]] * 25)
    again = text_regression.fit(features, truth, [Group([0], range(50))], unknown(1), 0, ignore_progress)
    assert np.array_equal(again.precision, unknown(1).precision)


def test_the_function_in_the_version_folder_equals_that_of_the_core_bit_for_bit() -> None:
    logits = 4.0 * torch.randn(50, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for columns in ([], [0], [1, 3, 6], list(range(7))):
        ours = conditional.condition_on_at_least_one(logits, columns)
        assert torch.equal(condition_on_at_least_one(logits, columns), ours)
