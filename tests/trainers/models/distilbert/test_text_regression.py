"""The regression on words: what scikit-learn's says, what the model in the folder says, and what a child keeps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from trainers.models.distilbert import text_regression as words
from trainers.models.distilbert.hidden_states import mask_of
from trainers.models.distilbert.network import PAIRS, Words, given_one

VOCABULARY = 50


def texts(number: int, seed: int = 3) -> list[list[int]]:
    """Token ids of texts of 1 to 20 tokens."""
    random = np.random.default_rng(seed)
    return [random.integers(1, VOCABULARY, random.integers(1, 20)).tolist() for _ in range(number)]


def features_of(tokens: list[list[int]]) -> words.Features:
    counts = words.count(tokens, VOCABULARY)
    return words.weigh(counts, words.inverse_frequencies(counts))


def unknown(labels: int) -> words.Weights:
    return words.Weights.unknown(VOCABULARY + PAIRS, labels)


def unwatched(done: int, of: int) -> None:
    """Nobody looks."""


def test_tokens_and_pairs_are_counted_and_padding_is_not() -> None:
    counts = words.count([[7, 7, 7, 9], [9]], VOCABULARY)
    assert counts[0, 7] == pytest.approx(1 + np.log(3))
    assert counts[[0, 1], [9, 9]].tolist() == [1, 1]
    assert counts[0].nnz == 4, "two tokens, and the pairs of 7 with 7 and with 9"
    assert counts[1].nnz == 1


def test_the_module_says_what_was_fitted() -> None:
    tokens = texts(40)
    counts = words.count(tokens, VOCABULARY)
    idf = words.inverse_frequencies(counts)
    random = np.random.default_rng(4)
    mean = random.normal(size=(VOCABULARY + PAIRS + 1, 3))
    module = Words(VOCABULARY, 3)
    for parameter, values in (
        (module.weight, mean[:-1]), (module.bias, mean[-1]), (module.idf, idf), (module.scale, [1.0, 2.0, 0.5]),
    ):  # fmt: skip
        parameter.data.copy_(torch.as_tensor(np.array(values)))
    lengths = [len(ids) for ids in tokens]
    padded = torch.tensor([ids + [0] * (max(lengths) - len(ids)) for ids in tokens])
    said = module(padded, mask_of(lengths).long()).numpy()
    assert said == pytest.approx((words.weigh(counts, idf) @ mean) * [1.0, 2.0, 0.5], abs=1e-4)


def test_given_one_is_what_counting_all_cases_gives() -> None:
    logits = torch.tensor([[0.3, -1.2, -4.0, 2.0], [-9.0, -8.0, -7.0, -1.0]], dtype=torch.float64)
    columns = [0, 1, 2]
    for row, found in zip(logits, given_one(logits, columns).sigmoid(), strict=True):
        p = row.sigmoid().tolist()
        cases = [case for case in itertools.product((0, 1), repeat=3) if any(case)]
        weights = [np.prod([p[i] if case[i] else 1 - p[i] for i in columns]) for case in cases]
        for i in columns:
            share = sum(w for w, case in zip(weights, cases, strict=True) if case[i]) / sum(weights)
            assert found[i].item() == pytest.approx(share)
        assert found[3].item() == pytest.approx(p[3]), "another task's column stays"


def test_given_one_is_finite_and_in_proportion_far_out() -> None:
    far = given_one(torch.tensor([[-40.0, -40.0], [60.0, -40.0], [-40.0, 60.0]]), [0, 1]).sigmoid()
    assert far[0].tolist() == pytest.approx([0.5, 0.5], abs=1e-4)
    assert far[1:].tolist() == [[1.0, pytest.approx(0.0, abs=1e-6)], [pytest.approx(0.0, abs=1e-6), 1.0]]
    alone = given_one(torch.tensor([[-3.0]]), [0])
    assert alone.isfinite().all()
    assert alone.sigmoid().item() == pytest.approx(1.0), "the only label of a text that has one"


def test_one_column_is_the_regression_of_scikit_learn() -> None:
    tokens = texts(200)
    features = features_of(tokens)
    truth = np.array([[7 in ids or len(ids) > 15] for ids in tokens])
    found = words.fit(features, truth, [([0], range(200))], unknown(1), 200, unwatched)
    theirs = LogisticRegression(C=1 / words.LOOSE, fit_intercept=False, tol=1e-8).fit(features, truth[:, 0])
    assert (features @ found.mean)[:, 0] == pytest.approx(features @ theirs.coef_[0], abs=0.02)


def test_several_columns_are_one_softmax_over_the_examples_that_speak_of_them() -> None:
    tokens = texts(300)
    features = features_of(tokens)
    classes = np.array([sum(ids) % 3 for ids in tokens])
    truth = np.eye(3, dtype=np.bool_)[classes]
    rows = list(range(0, 300, 2))
    found = words.fit(features, truth, [([0, 1, 2], rows)], unknown(3), 300, unwatched)
    theirs = LogisticRegression(C=1 / words.LOOSE, fit_intercept=False, tol=1e-8).fit(features[rows], classes[rows])
    ours = words.softmax(features @ found.mean)
    assert ours == pytest.approx(theirs.predict_proba(features), abs=0.01)


def test_a_child_keeps_what_its_examples_do_not_speak_of() -> None:
    first, second = [[1, 2], [3, 4]] * 100, [[5, 6], [8, 9]] * 100
    counts = words.count(first + second, VOCABULARY)
    features = words.weigh(counts, words.inverse_frequencies(counts))
    truth = np.array([[True], [False]] * 200)
    parent = words.fit(features[:200], truth[:200], [([0], range(200))], unknown(1), 200, unwatched)
    child = words.fit(features[200:], truth[200:], [([0], range(200))], parent, 200, unwatched)
    assert np.array_equal(child.mean[[1, 2, 3, 4]], parent.mean[[1, 2, 3, 4]])
    said = (features @ child.mean)[:, 0] > 0
    assert np.array_equal(said, truth[:, 0]), "it knows the new words, and still the old ones"


def test_the_more_a_parent_has_seen_the_less_a_few_examples_change() -> None:
    moved = {}
    for seen in (1, 100):
        features = features_of([[1, 2], [1, 2], [1, 2], [1, 2]] * seen)
        truth = np.array([[True], [True], [True], [False]] * seen)
        parent = words.fit(features, truth, [([0], range(4 * seen))], unknown(1), 4 * seen, unwatched)
        child = words.fit(features[:2], ~truth[:2], [([0], range(2))], parent, 2, unwatched)
        moved[seen] = float(np.abs(child.mean - parent.mean).max())
        assert (child.precision >= parent.precision).all()
    assert moved[100] < moved[1] / 4


def test_what_was_counted_before_makes_nothing_more_precise() -> None:
    features, truth = features_of(texts(50)), np.array([[True], [False]] * 25)
    again = words.fit(features, truth, [([0], range(50))], unknown(1), 0, unwatched)
    assert np.array_equal(again.precision, unknown(1).precision)
