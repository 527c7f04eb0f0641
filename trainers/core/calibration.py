"""Probabilities that mean what they say, and the thresholds from which a label is predicted.

    logits ──> x scale + shift ──> probabilities ──> thresholds ──> predicted labels
                 │                   └ tactics: given that a text has one; severities: the largest, no thresholds
                 └ tactics: Platt, one pair for all of them; severities: a temperature

Both are fitted on the holdout, and no score is computed on what was fitted: `cross_fitted` splits the holdout in
two by the hash of the key and judges each half with what was fitted on the other. What is saved is fitted on all.

A label's threshold is the one of the highest expected F1, computed from the calibrated probabilities themselves
(Lipton, Elkan and Narayanaswamy 2014: it is half of that F1). Choosing it by the labels instead fits the noise of
those that a holdout has few of (docs/experiments.md, 2026-11-25).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from schemas.journal import key_hash
from trainers.core.metrics.classification import LabelMatrix
from trainers.models.distilbert.network import given_one

Floats = npt.NDArray[np.float64]

MIN_EXAMPLES = 50
"""With fewer examples of a task nothing is fitted: logits stay as they are, thresholds the default."""
BINS = 15
_STRENGTH = 10.0
"""How many examples' worth the fit is held to a scale of 1 and a shift of 0."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What is done to the logits of a task, and from which probability on a label is predicted.

    Attributes:
        scale, shift: Of the logits; a softmax has no use for the shift.
        thresholds: One per label of the task, 0 to 1; none for a softmax.
        examples: How many it was fitted on; 0: it changes nothing.
    """

    scale: float = 1.0
    shift: float = 0.0
    thresholds: tuple[float, ...] = ()
    examples: int = 0


def identity(labels: int, threshold: float) -> Calibration:
    """Changes nothing; `labels` is 0 for a softmax.

    >>> identity(2, 0.5).thresholds
    (0.5, 0.5)
    """
    return Calibration(thresholds=(threshold,) * labels)


# ---- fit


def fit_sigmoid(logits: Floats, truth: LabelMatrix, threshold: float) -> Calibration:
    """Platt scaling over all labels at once, and a threshold for each.

    Args:
        logits: (examples, labels).
        truth: The same shape.
        threshold: Of every label where there are fewer than `MIN_EXAMPLES`.
    """
    if len(logits) < MIN_EXAMPLES:
        return identity(logits.shape[1], threshold)
    scale, shift = _platt(logits, truth)
    probabilities = at_least_one(scale * logits + shift)
    return Calibration(
        scale=scale,
        shift=shift,
        thresholds=tuple(best_threshold(column) for column in probabilities.T),
        examples=len(logits),
    )


def fit_softmax(logits: Floats, truth: LabelMatrix) -> Calibration:
    """A temperature (Guo et al. 2017).

    Args:
        logits: (examples, labels).
        truth: The same shape, one mark in each row.
    """
    if len(logits) < MIN_EXAMPLES:
        return Calibration()
    scales = np.exp(np.linspace(np.log(0.2), np.log(5.0), 101))
    losses = [_cross_entropy(scale * logits, truth) + _held(scale, 0.0, len(logits)) for scale in scales]
    return Calibration(scale=float(scales[int(np.argmin(losses))]), examples=len(logits))


def _platt(logits: Floats, truth: LabelMatrix) -> tuple[float, float]:
    """Newton's method on the mean log loss; the loss is convex and starts at (1, 0)."""
    x, y = logits.ravel(), truth.ravel().astype(np.float64)
    weight = _STRENGTH / len(logits)
    at = np.array([1.0, 0.0])
    start = at.copy()
    for _ in range(50):
        p = sigmoid(at[0] * x + at[1])
        error, slope = p - y, p * (1.0 - p)
        gradient = np.array([np.mean(error * x), np.mean(error)]) + weight * (at - start)
        hessian = np.array(
            [[np.mean(slope * x * x), np.mean(slope * x)], [np.mean(slope * x), np.mean(slope)]]
        ) + weight * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        at = at - step * min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-12))
        if float(np.abs(step).max()) < 1e-9:
            break
    return max(float(at[0]), 0.05), float(at[1])


def _held(scale: float, shift: float, examples: int) -> float:
    return float(0.5 * _STRENGTH / examples * (np.log(scale) ** 2 + shift**2))


def _cross_entropy(logits: Floats, truth: LabelMatrix) -> float:
    return float(-np.log(np.maximum(softmax(logits)[truth], 1e-12)).mean())


def best_threshold(probabilities: Floats) -> float:
    """The threshold of the highest expected F1 for one label, where its probabilities are true.

    Args:
        probabilities: Of each example.

    Returns:
        Half of that F1 (Lipton et al. 2014), at most 0.5.

    >>> best_threshold(np.array([1.0, 1.0, 0.0, 0.0]))
    0.5
    """
    falling = np.sort(probabilities)[::-1]
    named = np.arange(1, len(falling) + 1)
    expected = 2.0 * np.cumsum(falling) / (named + max(float(falling.sum()), 1e-12))
    return float(np.clip(expected.max() / 2.0, 0.05, 0.5))


# ---- cross-fitting


def folds(keys: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which of two halves each example is in, by the hash of its key."""
    return np.array([key_hash(key) // 1000 % 2 == 1 for key in keys], dtype=np.bool_)


# ---- probabilities


def sigmoid(logits: Floats) -> Floats:
    """Probability of each label by itself."""
    out: Floats = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return out


def at_least_one(logits: Floats) -> Floats:
    """Probability of each label, where every row has at least one: see `given_one`."""
    columns = range(logits.shape[1])
    return sigmoid(given_one(torch.from_numpy(logits), columns).numpy())


def softmax(logits: Floats) -> Floats:
    """Probabilities of labels of which an example has one; rows add up to 1."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    out: Floats = shifted / shifted.sum(1, keepdims=True)
    return out


def expected_calibration_error(probabilities: Floats, truth: LabelMatrix) -> float:
    """How far probabilities are from how often they are right, by the mean over `BINS` bins of equal width.

    Args:
        probabilities, truth: Any shape, both the same: labels each by itself, or the confidence in what was
            predicted and whether it was right.

    >>> expected_calibration_error(np.array([0.75] * 4), np.array([True, True, True, False]))
    0.0
    """
    p, y = probabilities.ravel(), truth.ravel().astype(np.float64)
    if not p.size:
        return 0.0
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    gap = np.bincount(bins, weights=p, minlength=BINS) - np.bincount(bins, weights=y, minlength=BINS)
    return float(np.abs(gap).sum() / p.size)
