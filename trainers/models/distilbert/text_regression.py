"""The regression of `trainers.models.distilbert.network` on the words of texts: counted, weighed, fitted, fitted further.

    token ids ──> counts ──> TF-IDF, unit length ──> logistic regression ──> weight, precision
                                                          └ a child is held to its parent's weight by the precision

What a version knows is the mean and the precision of its weights (the diagonal of Laplace's approximation;
Spiegelhalter and Lauritzen 1990). A child's fit is held to them, so that it forgets nothing that its own examples
don't speak against: for a regression this is elastic weight consolidation (Kirkpatrick et al. 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse
import torch
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits
from torch.nn.utils.rnn import pad_sequence

from trainers.core.calibration import sigmoid, softmax
from trainers.core.metrics.classification import LabelMatrix
from trainers.models.distilbert.hidden_states import by_length, mask_of
from trainers.models.distilbert.network import PAIRS, ngrams

Floats = npt.NDArray[np.float64]
Features: TypeAlias = scipy.sparse.csr_array
"""(texts, features + 1), rows of unit length, a last column of ones for the bias."""

LOOSE = 0.1
"""Precision of a weight that no example has spoken of; the inverse of `C` = 10 in scikit-learn's words."""
MOST_ITERATIONS = 100
BATCH = 64


class Weights(NamedTuple):
    """What is known of the regression's weights.

    Attributes:
        mean, precision: (features + 1, labels), the bias last.
    """

    mean: Floats
    precision: Floats

    @staticmethod
    def unknown(features: int, labels: int) -> Weights:
        """Nothing is known."""
        return Weights(np.zeros((features + 1, labels)), np.full((features + 1, labels), LOOSE))


def count(tokens: Sequence[Sequence[int]], vocabulary: int) -> scipy.sparse.csr_array:
    """Sublinear frequencies of tokens and pairs, (texts, features).

    Args:
        tokens: Token ids of each text, at least one, not padded.
        vocabulary: Size of the tokenizer's.
    """
    rows: list[npt.NDArray[np.int64]] = []
    columns: list[npt.NDArray[np.int64]] = []
    values: list[Floats] = []
    for batch in by_length([len(ids) for ids in tokens], BATCH):
        ids = pad_sequence([torch.tensor(tokens[i]) for i in batch], batch_first=True)
        numbers, _, share = ngrams(ids, mask_of([len(tokens[i]) for i in batch]), vocabulary)
        stands = share > 0
        rows.append(np.repeat(np.array(batch), stands.sum(1).numpy()))
        columns.append(numbers[stands].numpy())
        values.append(share[stands].double().numpy())
    flat = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return scipy.sparse.csr_array(flat, shape=(len(tokens), vocabulary + PAIRS))


def inverse_frequencies(counts: scipy.sparse.csr_array) -> Floats:
    """Smoothed inverse document frequency of each feature; 1 for one that is in every text."""
    texts = counts.shape[0]
    seen_in = np.bincount(counts.indices, minlength=counts.shape[1])
    out: Floats = np.log((1 + texts) / (1 + seen_in)) + 1.0
    return out


def weigh(counts: scipy.sparse.csr_array, idf: Floats) -> Features:
    """TF-IDF, each text of unit length, and the column of the bias."""
    weighed = counts @ scipy.sparse.diags_array(idf)
    lengths = np.sqrt(np.asarray(weighed.multiply(weighed).sum(1)).ravel())
    unit = scipy.sparse.diags_array(1.0 / np.maximum(lengths, 1e-6)) @ weighed
    return scipy.sparse.hstack([unit, np.ones((counts.shape[0], 1))], format="csr")


def fit(
    features: Features,
    truth: LabelMatrix,
    groups: Sequence[tuple[Sequence[int], Sequence[int]]],
    before: Weights,
    new: int,
    after: Callable[[int, int], None],
) -> Weights:
    """The weights once some examples are seen.

    Args:
        features: Of the examples, (examples, features + 1).
        truth: (examples, labels).
        groups: Columns that are fitted together, and the examples that say anything of them: one column is a
            logistic regression, several are a softmax, whose examples have one mark each.
        before: What is known from earlier examples.
        new: So many examples, the first ones, were never counted into `before`: they make it more precise.
        after: Called with (done, all) after each group.
    """
    mean, precision = before.mean.copy(), before.precision.copy()
    with threadpool_limits(1, "blas"):  # another number of threads gives other sums
        for done, (columns, rows) in enumerate(groups, 1):
            if len(rows):
                _fit_group(features, truth, np.array(columns), np.array(rows), mean, precision, new)
            after(done, len(groups))
    return Weights(mean, precision)


def _fit_group(
    features: Features, truth: LabelMatrix, columns: npt.NDArray[np.int64], rows: npt.NDArray[np.int64],
    mean: Floats, precision: Floats, new: int,
) -> None:  # fmt: skip
    """Change one group's columns of `mean` and `precision`, in the rows of features that its examples have."""
    seen = features[rows]
    present = np.unique(seen.indices)
    seen, at = seen[:, present].tocsr(), np.ix_(present, columns)
    turned = seen.T.tocsr()
    start, held = mean[at], precision[at]
    wanted = truth[np.ix_(rows, columns)].astype(np.float64)
    say = softmax if len(columns) > 1 else sigmoid

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(start.shape)
        logits = seen @ weights
        top = logits if len(columns) > 1 else np.hstack([logits, np.zeros_like(logits)])
        partition = np.logaddexp.reduce(top, axis=1)
        away = weights - start
        value = partition.sum() - (wanted * logits).sum() + 0.5 * (held * away * away).sum()
        gradient = turned @ (say(logits) - wanted) + held * away
        return float(value), gradient.ravel()

    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": MOST_ITERATIONS})
    mean[at] = found.x.reshape(start.shape)
    fresh = seen[rows < new]
    sure = say(fresh @ mean[at])
    precision[at] += fresh.multiply(fresh).T @ (sure * (1.0 - sure))
