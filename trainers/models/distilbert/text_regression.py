"""The logistic regression on the words of texts: features, fit, warm start from the parent.

    token ids ──> sublinear counts ──> TF-IDF, unit length ──> logistic regression ──> mean, precision
                                                             a child is held to its parent's mean ┘

A version stores the mean and the precision of the weights: the diagonal of Laplace's approximation (Spiegelhalter
and Lauritzen 1990). They are the prior of a child's fit, so a child keeps what its own examples do not contradict.
For a regression this is elastic weight consolidation (Kirkpatrick et al. 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import scipy.sparse
import torch
from safetensors.torch import load_file
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits
from torch import nn

from schemas.scores import SEVERITY
from trainers.core.metrics.classification import LabelMatrix, label_matrix
from trainers.core.probabilities import FloatArray, sigmoid, softmax
from trainers.models.distilbert.head import model_labels, saved_labels
from trainers.models.distilbert.labels import columns_by_task, rows_of_task
from trainers.models.distilbert.network import BIGRAM_BUCKETS, DistilBertWithWords, ngrams

Features: TypeAlias = scipy.sparse.csr_array
"""(texts, features + 1), float64: TF-IDF rows of unit length, and a last column of ones for the bias."""

PRECISION_FILE = "words_precision.safetensors"
"""The precision of the weights of a version; its children start from it."""
PRIOR_PRECISION = 0.1
"""Precision of a weight before any example: the inverse of `C` in scikit-learn, which is 10 here."""
MAX_ITERATIONS = 100


class Weights(NamedTuple):
    """The posterior of the regression's weights: a normal distribution with a diagonal precision.

    Attributes:
        mean: (features + 1, labels), float64, the bias last.
        precision: (features + 1, labels), float64, the inverse variances.
    """

    mean: FloatArray
    precision: FloatArray

    @staticmethod
    def prior(features: int, labels: int) -> Weights:
        """The distribution before any example: mean 0, precision `PRIOR_PRECISION`."""
        shape = (features + 1, labels)
        return Weights(np.zeros(shape), np.full(shape, PRIOR_PRECISION))


class Group(NamedTuple):
    """Labels that are fitted together.

    Attributes:
        columns: One column for a logistic regression; several for a softmax, whose examples have one label each.
        rows: The examples to fit them on.
    """

    columns: Sequence[int]
    rows: Sequence[int]


# ---- features


def count(tokens: Sequence[Sequence[int]], vocabulary_size: int) -> scipy.sparse.csr_array:
    """Count unigrams and bigrams.

    Args:
        tokens: Token ids of each text, not padded; at least one text.
        vocabulary_size: Size of the tokenizer's vocabulary.

    Returns:
        (texts, features), float64, sublinear term frequencies: 1 + log(count).
    """
    width = vocabulary_size + BIGRAM_BUCKETS
    ids = np.concatenate([np.asarray(text, dtype=np.int64) for text in tokens])
    rows = np.repeat(np.arange(len(tokens)), [len(text) for text in tokens])
    is_pair = rows[:-1] == rows[1:]
    pairs = torch.from_numpy(np.stack([ids[:-1], ids[1:]], 1))
    bigrams = ngrams(pairs, torch.ones_like(pairs), vocabulary_size)[0][:, 2].numpy()
    occurrences = np.concatenate([rows * width + ids, (rows[:-1] * width + bigrams)[is_pair]])
    entries, number = np.unique(occurrences, return_counts=True)
    possible = torch.arange(1, int(number.max()) + 1).float()
    share = ((1.0 + possible.log()) / possible).double().numpy()  # in float32, as `ngrams` computes it
    row, columns = np.divmod(entries, width)
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(tokens)))])
    return scipy.sparse.csr_array((share[number - 1] * number, columns, starts), shape=(len(tokens), width))


def inverse_document_frequencies(counts: scipy.sparse.csr_array) -> FloatArray:
    """Smoothed inverse document frequencies, as scikit-learn's `TfidfTransformer` computes them.

    Args:
        counts: (texts, features).

    Returns:
        (features,), at least 1; 1 for a feature that is in every text.
    """
    texts = counts.shape[0]
    document_frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    idf: FloatArray = np.log((1 + texts) / (1 + document_frequency)) + 1.0
    return idf


def tfidf(counts: scipy.sparse.csr_array, idf: FloatArray) -> Features:
    """Weight counts by inverse document frequencies, scale each text to unit length, and add the column of the
    bias.

    Args:
        counts: (texts, features).
        idf: (features,).
    """
    weighted = counts.copy()
    weighted.data = weighted.data * idf[weighted.indices]
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(1)).ravel())
    weighted.data *= np.repeat(1.0 / np.maximum(lengths, 1e-6), np.diff(weighted.indptr))
    return scipy.sparse.hstack([weighted, np.ones((counts.shape[0], 1))], format="csr")


# ---- fit


def fit(
    features: Features,
    truth: LabelMatrix,
    groups: Sequence[Group],
    prior: Weights,
    fresh: int,
    on_group: Callable[[int, int], None],
) -> Weights:
    """Fit the weights by L-BFGS.

    Args:
        features: (examples, features + 1).
        truth: (examples, labels).
        groups: Each is fitted by itself; one without rows keeps its prior.
        prior: The posterior of earlier examples.
        fresh: Number of examples, from the first, that are not part of `prior` yet: only these add to the
            precision.
        on_group: Called with (groups done, groups in all) after each group.

    Returns:
        The posterior.
    """
    mean, precision = prior.mean.copy(), prior.precision.copy()
    with threadpool_limits(1, "blas"):  # with another number of threads the sums differ in their last bits
        for done, group in enumerate(groups, 1):
            if len(group.rows):
                _fit_group(features, truth, group, mean, precision, fresh)
            on_group(done, len(groups))
    return Weights(mean, precision)


def _fit_group(
    features: Features, truth: LabelMatrix, group: Group, mean: FloatArray, precision: FloatArray, fresh: int
) -> None:
    """Update a group's columns of `mean` and `precision`, in the rows of the features that its examples have."""
    columns, rows = np.array(group.columns), np.array(group.rows)
    examples = features[rows]
    present = np.unique(examples.indices)
    examples, cells = examples[:, present].tocsr(), np.ix_(present, columns)
    targets = truth[np.ix_(rows, columns)].astype(np.float64)
    probabilities = softmax if len(columns) > 1 else sigmoid
    mean[cells] = _minimize(examples, targets, mean[cells], precision[cells])
    new_examples = examples[rows < fresh]
    p = probabilities(new_examples @ mean[cells])
    precision[cells] += new_examples.multiply(new_examples).T @ (p * (1.0 - p))


def _minimize(
    examples: scipy.sparse.csr_array, targets: FloatArray, prior_mean: FloatArray, prior_precision: FloatArray
) -> FloatArray:
    """The weights with the largest posterior density, (features, columns)."""
    transposed = examples.T.tocsr()
    exclusive = targets.shape[1] > 1
    probabilities = softmax if exclusive else sigmoid

    def loss(flat: FloatArray) -> tuple[float, FloatArray]:
        weights = flat.reshape(prior_mean.shape)
        logits = examples @ weights
        exponents = logits if exclusive else np.hstack([logits, np.zeros_like(logits)])
        log_partition = np.logaddexp.reduce(exponents, axis=1)
        change = weights - prior_mean
        value = log_partition.sum() - (targets * logits).sum() + 0.5 * (prior_precision * change * change).sum()
        gradient = transposed @ (probabilities(logits) - targets) + prior_precision * change
        return float(value), gradient.ravel()

    options = {"maxiter": MAX_ITERATIONS}
    result = minimize(loss, prior_mean.ravel(), jac=True, method="L-BFGS-B", options=options)
    minimum: FloatArray = result.x.reshape(prior_mean.shape)
    return minimum


# ---- the regression of a model


def fit_idf(model: DistilBertWithWords, counts: scipy.sparse.csr_array) -> None:
    """Set the inverse document frequencies of a first version; its children keep them."""
    _assign(model.words.idf, inverse_document_frequencies(counts))


def features_of(model: DistilBertWithWords, counts: scipy.sparse.csr_array) -> Features:
    """The features of texts, by the inverse document frequencies of a model.

    Args:
        model: A model with inverse document frequencies.
        counts: (texts, features).
    """
    return tfidf(counts, to_float64(model.words.idf))


def fit_model(
    model: DistilBertWithWords,
    features: Features,
    sets: Sequence[Sequence[str]],
    fresh: int,
    parent: Path | None,
    scale: float,
    on_group: Callable[[int, int], None],
) -> torch.Tensor:
    """Fit the text regression of a model in place, to convergence.

    Args:
        model: With the weights of the parent, if there is one.
        features: (examples, features + 1).
        sets: Labels of each example.
        fresh: Number of examples, from the first, on which no ancestor was trained.
        parent: Folder of the version whose weights are the prior, or None.
        scale: Weight of its logits in the sum with the encoder's, at least 0. With 0 nothing is fitted.
        on_group: Called with (groups done, groups in all).

    Returns:
        (features + 1, labels), the precision of the weights, bfloat16.
    """
    labels = model_labels(model.config)
    prior = _prior(model_weights(model), labels, parent)
    posterior = prior
    if scale:
        posterior = fit(features, label_matrix(sets, labels), _groups(sets, labels), prior, fresh, on_group)
    _assign(model.words.weight, posterior.mean[:-1])
    _assign(model.words.bias, posterior.mean[-1])
    nn.init.constant_(model.words.scale, scale)
    return torch.from_numpy(posterior.precision).to(torch.bfloat16)


def _prior(mean: FloatArray, labels: Sequence[str], parent: Path | None) -> Weights:
    prior = Weights(mean, Weights.prior(len(mean) - 1, len(labels)).precision)
    if parent:
        precision = to_float64(load_file(parent / PRECISION_FILE)["precision"])
        for column, label in enumerate(saved_labels(parent)):
            if label in labels:
                prior.precision[:, labels.index(label)] = precision[:, column]
    return prior


def _groups(sets: Sequence[Sequence[str]], labels: Sequence[str]) -> list[Group]:
    """Each tactic by itself, all severities together."""
    groups: list[Group] = []
    for task, columns in columns_by_task(labels).items():
        rows = rows_of_task(sets, task)
        groups += [Group(columns, rows)] if task == SEVERITY else [Group([column], rows) for column in columns]
    return groups


def model_logits(model: DistilBertWithWords, features: Features) -> FloatArray:
    """The logits that the text regression adds to the encoder's, (texts, labels), float64."""
    return scaled_logits(features, model_weights(model), to_float64(model.words.scale))


def scaled_logits(features: Features, weights: FloatArray, scale: FloatArray) -> FloatArray:
    """Logits of texts.

    Args:
        features: (texts, features + 1).
        weights: (features + 1, labels), the bias last.
        scale: (labels,).

    Returns:
        (texts, labels), float64.
    """
    logits: FloatArray = scale * (features @ weights)
    return logits


def model_weights(model: DistilBertWithWords) -> FloatArray:
    """The weights of a model's text regression, (features + 1, labels), float64, the bias last."""
    return np.vstack([to_float64(model.words.weight), to_float64(model.words.bias)])


def to_float64(values: torch.Tensor) -> FloatArray:
    """A tensor as an array on the CPU."""
    array: FloatArray = values.detach().cpu().double().numpy()
    return array


def _assign(parameter: nn.Parameter, values: FloatArray) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(values))
