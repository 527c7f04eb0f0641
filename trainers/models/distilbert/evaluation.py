"""Scores of a version, of its parent and of the baselines, on the same examples.

logits of the holdout ──> each half calibrated on the other ──> predictions ──> scores by task and split
parent, fresh examples ──> the thresholds that it serves with ──> predictions ──> prequential scores
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from transformers import DistilBertConfig

from schemas.scores import HOLDOUT, OLD, PREQUENTIAL, RECENT, SEVERITY, Evaluation, TaskScores, merge
from schemas.severity import is_stated
from trainers.core.baselines.tfidf import tfidf_logistic_regression
from trainers.core.dataset import Dataset, OffsetExample
from trainers.core.metrics.classification import (
    TASKS,
    LabelMatrix,
    classification_scores,
    extend_labels,
    label_matrix,
    most_frequent_labels,
)
from trainers.core.probabilities import FloatArray
from trainers.models.distilbert.calibration import (
    Calibration,
    Calibrations,
    Predictions,
    calibrated_predictions,
    expected_calibration_error,
    fit_sigmoid,
    fit_softmax,
    half_of_keys,
    serving_calibrations,
)
from trainers.models.distilbert.head import saved_thresholds
from trainers.models.distilbert.labels import (
    columns_by_task,
    label_sets,
    rows_of_task,
    texts_of,
)

# ---- calibration


def fit_calibrations(
    logits: FloatArray, examples: Sequence[OffsetExample], labels: Sequence[str], default_threshold: float
) -> Calibrations:
    """Fit the calibration of each task on the examples that have labels of it.

    Args:
        logits: (examples, labels).
        examples: The true labels.
        labels: Names of the columns.
        default_threshold: Of tactics, if there are too few examples to fit thresholds.
    """
    sets = label_sets(examples)
    truth = label_matrix(sets, labels)
    calibrations: dict[str, Calibration] = {}
    for task, columns in columns_by_task(labels).items():
        rows = rows_of_task(sets, task)
        if task == SEVERITY:
            cells = np.ix_([row for row in rows if truth[row, columns].any()], columns)
            calibrations[task] = fit_softmax(logits[cells], truth[cells])
        else:
            cells = np.ix_(rows, columns)
            calibrations[task] = fit_sigmoid(logits[cells], truth[cells], default_threshold)
    return calibrations


def cross_fit(
    logits: FloatArray, examples: Sequence[OffsetExample], labels: Sequence[str], default_threshold: float
) -> Predictions:
    """Predict each half of the holdout with the calibration that is fitted on the other half.

    Args:
        logits: (examples, labels).
        examples: The holdout.
        labels: Names of the columns.
        default_threshold: See `fit_calibrations`.
    """
    half = half_of_keys([example.key for _, example in examples])
    probabilities, predicted = np.zeros(logits.shape), np.zeros(logits.shape, dtype=np.bool_)
    for selected in (half, ~half):
        others = [example for example, is_selected in zip(examples, selected, strict=True) if not is_selected]
        calibrations = fit_calibrations(logits[~selected], others, labels, default_threshold)
        probabilities[selected], predicted[selected] = calibrated_predictions(
            logits[selected], labels, calibrations
        )
    return Predictions(probabilities, predicted)


# ---- scores


def holdout_evaluation(
    logits: FloatArray, data: Dataset, labels: Sequence[str], default_threshold: float
) -> Evaluation:
    """Scores on `old`, `recent` and `holdout`, cross-fitted.

    Args:
        logits: (old + recent examples, labels).
        data: The old and the recent holdout examples.
        labels: Names of the columns.
        default_threshold: See `fit_calibrations`.
    """
    holdout = data.old + data.recent
    predictions = cross_fit(logits, holdout, labels, default_threshold)
    splits = {OLD: slice(len(data.old)), RECENT: slice(len(data.old), None), HOLDOUT: slice(None)}
    scores = {
        split: task_scores(predictions.of_rows(rows), holdout[rows], labels) for split, rows in splits.items()
    }
    return merge(*(as_split(split, of_split) for split, of_split in scores.items()))


def prequential_evaluation(
    logits: FloatArray,
    examples: Sequence[OffsetExample],
    labels: Sequence[str],
    parent: Path,
    default_threshold: float,
) -> Evaluation:
    """Scores of the parent on examples that it never saw, with the thresholds that it serves with.

    Args:
        logits: (examples, labels), of the parent. They are calibrated, because its calibration is part of its
            weights.
        examples: The fresh examples.
        labels: Names of the columns.
        parent: Folder of the parent.
        default_threshold: Of labels that the parent does not know.
    """
    thresholds = saved_thresholds(DistilBertConfig.from_pretrained(parent))
    calibrations = serving_calibrations(labels, thresholds, default_threshold)
    predictions = calibrated_predictions(logits, labels, calibrations)
    return as_split(PREQUENTIAL, task_scores(predictions, examples, labels))


def task_scores(
    predictions: Predictions, examples: Sequence[OffsetExample], labels: Sequence[str]
) -> dict[str, TaskScores]:
    """Scores of each task that there are labels of, with the expected calibration error as `ece`.

    Those of severities have the accuracy apart for texts that state theirs and for those that do not.

    Args:
        predictions: For the examples.
        examples: The true labels; those that the model does not know count as missed.
        labels: Names of the columns of the predictions.
    """
    scores = label_scores(predictions.predicted, examples, labels)
    sets = label_sets(examples)
    truth = label_matrix(sets, labels)
    for task, columns in columns_by_task(labels).items():
        rows = rows_of_task(sets, task)
        if not rows:
            continue
        cells = np.ix_(rows, columns)
        probabilities, correct = predictions.probabilities[cells], truth[cells]
        if task == SEVERITY:
            predicted = predictions.predicted[cells]
            probabilities, correct = probabilities[predicted], correct[predicted]
        extra = {"ece": expected_calibration_error(probabilities, correct)}
        if task == SEVERITY:
            extra |= _stated_and_predicted([examples[row][1].text for row in rows], correct)
        scores[task] = msgspec.structs.replace(scores[task], extra=extra)
    return scores


def _stated_and_predicted(texts: Sequence[str], correct: LabelMatrix) -> dict[str, float]:
    """The accuracy apart for texts whose severity a server looks up, and for those where it has to be predicted.

    Args:
        texts: Of the examples, at least one.
        correct: (examples,), whether each prediction is right.

    Returns:
        `share_stated`, `accuracy_if_stated` and `accuracy_if_not_stated`; no accuracy where there are no texts.
    """
    stated = np.array([is_stated(text) for text in texts])
    found = {"share_stated": float(stated.mean())}
    for name, rows in (("accuracy_if_stated", stated), ("accuracy_if_not_stated", ~stated)):
        if rows.any():
            found[name] = float(correct[rows].mean())
    return found


def label_scores(
    predicted: LabelMatrix, examples: Sequence[OffsetExample], labels: Sequence[str]
) -> dict[str, TaskScores]:
    """Scores of each task by the predicted labels alone.

    Args:
        predicted: (examples, labels).
        examples: The true labels; those that the model does not know count as missed.
        labels: Names of the columns.
    """
    sets = label_sets(examples)
    scores: dict[str, TaskScores] = {}
    for task, columns in columns_by_task(labels).items():
        rows = rows_of_task(sets, task)
        truth = [[label for label in sets[row] if TASKS[task](label)] for row in rows]
        all_labels = extend_labels([labels[i] for i in columns], truth)
        of_task = np.zeros((len(rows), len(all_labels)), dtype=np.bool_)
        of_task[:, : len(columns)] = predicted[np.ix_(rows, columns)]
        scores[task] = classification_scores(label_matrix(truth, all_labels), of_task, all_labels)
    return scores


def as_split(split: str, scores: Mapping[str, TaskScores]) -> Evaluation:
    """The scores of one split as an evaluation."""
    return {task: {split: of_task} for task, of_task in scores.items()}


# ---- baselines


def trivial_predictions(
    train: Sequence[OffsetExample], holdout: Sequence[OffsetExample], labels: Sequence[str]
) -> LabelMatrix:
    """Predict the most frequent labels of each task for every example.

    Args:
        train: The examples to count labels in.
        holdout: The examples to predict.
        labels: Names of the columns.

    Returns:
        (holdout examples, labels).
    """
    frequent: list[str] = []
    for belongs in TASKS.values():
        of_task = [[label for label in names if belongs(label)] for names in label_sets(train)]
        frequent += most_frequent_labels(names for names in of_task if names)
    return label_matrix([frequent] * len(holdout), labels)


def tfidf_logits(
    train: Sequence[OffsetExample], holdout: Sequence[OffsetExample], labels: Sequence[str], seed: int
) -> FloatArray:
    """Logits of TF-IDF with one logistic regression per label, trained on the same examples.

    Args:
        train: The training examples, at least one.
        holdout: The examples to predict.
        labels: Names of the columns.
        seed: Of the solver.

    Returns:
        (holdout examples, labels), float64.
    """
    sets = label_sets(train)
    has_task = np.zeros((len(train), len(labels)), dtype=np.bool_)
    for task, columns in columns_by_task(labels).items():
        has_task[np.ix_(rows_of_task(sets, task), columns)] = True
    return tfidf_logistic_regression(texts_of(train), label_matrix(sets, labels), has_task, texts_of(holdout), seed)
