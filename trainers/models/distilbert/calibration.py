"""Calibrated probabilities, and the thresholds above which a label is predicted.

    logits ──> x scale + shift ──> probabilities ──> thresholds ──> predicted labels
                 │                   └ tactics: conditioned on at least one; severities: argmax, no thresholds
                 └ tactics: Platt scaling, one pair for all of them; severities: a temperature

Both are fitted on the holdout, and no score is computed on examples that its calibration was fitted on:
`half_of_keys` splits the holdout in two by the hash of the key, and each half is scored with the calibration of the
other half (`trainers.models.distilbert.evaluation.cross_fit`). The saved calibration is fitted on all of it.

The threshold of a label maximizes the expected F1, computed from the calibrated probabilities themselves (Lipton,
Elkan
and Narayanaswamy 2014: it is half of that F1). A threshold chosen by the true labels would fit the noise of rare
labels (docs/experiments.md, 2026-11-25).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.journal import key_hash
from schemas.scores import SEVERITY, TACTICS
from schemas.taxonomy import is_severity
from trainers.core.conditional import at_least_one
from trainers.core.metrics.classification import LabelMatrix
from trainers.core.probabilities import FloatArray, sigmoid, softmax
from trainers.models.distilbert.labels import columns_by_task

MIN_EXAMPLES = 50
"""With fewer examples of a task nothing is fitted: its logits stay as they are, its thresholds are the default."""
MIN_SCALE = 0.05
MIN_THRESHOLD, MAX_THRESHOLD = 0.05, 0.5
BINS = 15
PRIOR_EXAMPLES = 10.0
"""Strength of the prior of scale 1 and shift 0, in examples."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """The calibration of one task.

    Attributes:
        scale: Factor of the logits, over 0.
        shift: Added to the scaled logits; 0 for a softmax, which it would not change.
        thresholds: One per label of the task, 0 to 1; empty for a softmax.
        examples: Number of examples it was fitted on; 0 if it changes nothing.
    """

    scale: float = 1.0
    shift: float = 0.0
    thresholds: tuple[float, ...] = ()
    examples: int = 0


Calibrations = Mapping[str, Calibration]
"""Task -> its calibration."""


class Predictions(NamedTuple):
    """Predictions for some texts.

    Attributes:
        probabilities: (texts, labels), float64, 0 to 1.
        predicted: (texts, labels), bool. Any number of tactics per text, and exactly one severity if there are any.
    """

    probabilities: FloatArray
    predicted: LabelMatrix

    def of_rows(self, rows: slice | list[int]) -> Predictions:
        """The predictions for some of the texts."""
        return Predictions(self.probabilities[rows], self.predicted[rows])


def identity(labels: int, threshold: float) -> Calibration:
    """A calibration that does not change the logits.

    Args:
        labels: Number of labels of the task; 0 for a softmax.
        threshold: Of every label, 0 to 1.

    >>> identity(2, 0.5).thresholds
    (0.5, 0.5)
    """
    return Calibration(thresholds=(threshold,) * labels)


def calibrated_predictions(logits: FloatArray, labels: Sequence[str], calibrations: Calibrations) -> Predictions:
    """Calibrate logits and predict labels.

    Args:
        logits: (texts, labels), of independent tactics and of severities.
        labels: Names of the columns.
        calibrations: One for each task that has labels.
    """
    probabilities, predicted = np.zeros(logits.shape), np.zeros(logits.shape, dtype=np.bool_)
    for task, columns in columns_by_task(labels).items():
        calibration = calibrations[task]
        calibrated = calibration.scale * logits[:, columns] + calibration.shift
        if task == SEVERITY:
            probabilities[:, columns] = softmax(calibrated)
            predicted[np.arange(len(logits)), np.array(columns)[calibrated.argmax(1)]] = True
        else:
            probabilities[:, columns] = at_least_one(calibrated)
            predicted[:, columns] = probabilities[:, columns] >= np.array(calibration.thresholds)
    return Predictions(probabilities, predicted)


def serving_calibrations(
    labels: Sequence[str], thresholds: Mapping[str, float], default_threshold: float
) -> Calibrations:
    """The calibrations of a saved version: its weights contain scale and shift, so only thresholds are left.

    Args:
        labels: Names of the columns.
        thresholds: Tactic -> threshold, 0 to 1.
        default_threshold: Of the tactics that have none.
    """
    tactics = (label for label in labels if not is_severity(label))
    of_tactics = tuple(thresholds.get(tactic, default_threshold) for tactic in tactics)
    return {TACTICS: Calibration(thresholds=of_tactics), SEVERITY: Calibration()}


# ---- fit


def fit_sigmoid(logits: FloatArray, truth: LabelMatrix, default_threshold: float) -> Calibration:
    """Fit Platt scaling (Platt 1999) on all labels at once, and a threshold for each label.

    Args:
        logits: (examples, labels).
        truth: (examples, labels).
        default_threshold: Threshold of every label if there are fewer than `MIN_EXAMPLES` examples.
    """
    if len(logits) < MIN_EXAMPLES:
        return identity(logits.shape[1], default_threshold)
    scale, shift = _platt(logits, truth)
    probabilities = at_least_one(scale * logits + shift)
    return Calibration(
        scale=scale,
        shift=shift,
        thresholds=tuple(best_threshold(column) for column in probabilities.T),
        examples=len(logits),
    )


def fit_softmax(logits: FloatArray, truth: LabelMatrix) -> Calibration:
    """Fit a temperature (Guo et al. 2017) by a search over a grid.

    Args:
        logits: (examples, labels).
        truth: (examples, labels), one label in each row.
    """
    if len(logits) < MIN_EXAMPLES:
        return Calibration()
    scales = np.exp(np.linspace(np.log(0.2), np.log(5.0), 101))
    losses = [_cross_entropy(scale * logits, truth) + _prior_loss(scale, len(logits)) for scale in scales]
    return Calibration(scale=float(scales[int(np.argmin(losses))]), examples=len(logits))


def _platt(logits: FloatArray, truth: LabelMatrix) -> tuple[float, float]:
    """Scale and shift, by Newton's method on the mean log loss. The loss is convex; the start is (1, 0)."""
    x, y = logits.ravel(), truth.ravel().astype(np.float64)
    weight = PRIOR_EXAMPLES / len(logits)
    parameters = np.array([1.0, 0.0])
    prior = parameters.copy()
    for _ in range(50):
        p = sigmoid(parameters[0] * x + parameters[1])
        error, slope = p - y, p * (1.0 - p)
        gradient = np.array([np.mean(error * x), np.mean(error)]) + weight * (parameters - prior)
        hessian = np.array(
            [[np.mean(slope * x * x), np.mean(slope * x)], [np.mean(slope * x), np.mean(slope)]]
        ) + weight * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        parameters = parameters - step * min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-12))
        if float(np.abs(step).max()) < 1e-9:
            break
    return max(float(parameters[0]), MIN_SCALE), float(parameters[1])


def _prior_loss(scale: float, examples: int) -> float:
    return float(0.5 * PRIOR_EXAMPLES / examples * (np.log(scale) ** 2))


def _cross_entropy(logits: FloatArray, truth: LabelMatrix) -> float:
    return float(-np.log(np.maximum(softmax(logits)[truth], 1e-12)).mean())


def best_threshold(probabilities: FloatArray) -> float:
    """The threshold with the highest expected F1 for one label, if its probabilities are calibrated.

    Args:
        probabilities: (examples,), of the label.

    Returns:
        Half of that F1 (Lipton et al. 2014), `MIN_THRESHOLD` to `MAX_THRESHOLD`.

    >>> best_threshold(np.array([1.0, 1.0, 0.0, 0.0]))
    0.5
    """
    descending = np.sort(probabilities)[::-1]
    predicted = np.arange(1, len(descending) + 1)
    expected_f1 = 2.0 * np.cumsum(descending) / (predicted + max(float(descending.sum()), 1e-12))
    return float(np.clip(expected_f1.max() / 2.0, MIN_THRESHOLD, MAX_THRESHOLD))


def half_of_keys(keys: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Split keys in two halves by their hash.

    Returns:
        (keys,), whether each key is in the second half. It depends on the key alone.
    """
    return np.array([key_hash(key) // 1000 % 2 == 1 for key in keys], dtype=np.bool_)


# ---- measure


def expected_calibration_error(probabilities: FloatArray, truth: LabelMatrix) -> float:
    """The expected calibration error (Naeini et al. 2015): the mean gap between probability and frequency.

    Args:
        probabilities: Any shape, 0 to 1: of independent labels, or the confidence in a predicted class.
        truth: The same shape: whether the label applies, or the prediction is right.

    Returns:
        0 to 1, over `BINS` bins of equal width; 0 for no probabilities.

    >>> expected_calibration_error(np.array([0.75] * 4), np.array([True, True, True, False]))
    0.0
    """
    p, y = probabilities.ravel(), truth.ravel().astype(np.float64)
    if not p.size:
        return 0.0
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    gap = np.bincount(bins, weights=p, minlength=BINS) - np.bincount(bins, weights=y, minlength=BINS)
    return float(np.abs(gap).sum() / p.size)
