"""Metrics of classification tasks: micro and macro F1, and precision, recall and F1 of each label.

`distilbert-mitre` has two tasks. A text has any number of tactics (multi-label), and one of five severities
(multi-class), for which micro F1 is the accuracy. An example belongs to a task if it has a label of that task.

Macro F1 is the mean over the labels that occur in the examples. This includes labels that the model does not know;
they count as missed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from schemas.scores import SEVERITY, TACTICS, LabelScores, TaskScores, proportion_error
from schemas.taxonomy import is_severity

TASKS: Mapping[str, Callable[[str], bool]] = {TACTICS: lambda label: not is_severity(label), SEVERITY: is_severity}
"""Task -> whether a label belongs to it."""

LabelMatrix = npt.NDArray[np.bool_]
"""(examples, labels), boolean: which example has which label."""


def extend_labels(known: Sequence[str], examples: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """The known labels in their order, followed by the other labels of the examples, sorted.

    >>> extend_labels(["impact"], [("execution",), ("impact", "discovery")])
    ('impact', 'discovery', 'execution')
    """
    others = {label for labels in examples for label in labels} - set(known)
    return (*known, *sorted(others))


def label_matrix(examples: Sequence[Sequence[str]], labels: Sequence[str]) -> LabelMatrix:
    """Binarize label sets.

    Args:
        examples: The labels of each example; those that are not in `labels` are ignored.
        labels: The columns.

    Returns:
        (examples, labels), boolean.

    >>> label_matrix([("impact",), ()], ["execution", "impact"]).tolist()
    [[False, True], [False, False]]
    """
    column = {label: i for i, label in enumerate(labels)}
    matrix = np.zeros((len(examples), len(labels)), dtype=np.bool_)
    for row, names in enumerate(examples):
        matrix[row, [column[name] for name in names if name in column]] = True
    return matrix


def classification_scores(truth: LabelMatrix, predicted: LabelMatrix, labels: Sequence[str]) -> TaskScores:
    """Compare predictions with the truth.

    Args:
        truth: (examples, labels).
        predicted: (examples, labels).
        labels: Names of the columns.

    Returns:
        Micro and macro F1, and the scores of the labels that occur in `truth`. All 0 without examples.
    """
    from sklearn.metrics import precision_recall_fscore_support  # slow to import, and commands import this module

    if not truth.size:
        return scores_of_labels(0, 0.0, {})
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predicted, average=None, zero_division=0
    )
    occurring = {
        label: LabelScores(float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
        for i, label in enumerate(labels)
        if support[i]
    }
    _, _, micro, _ = precision_recall_fscore_support(truth, predicted, average="micro", zero_division=0)
    return scores_of_labels(len(truth), float(micro), occurring)


def scores_of_labels(examples: int, micro_f1: float, labels: dict[str, LabelScores]) -> TaskScores:
    """Scores of a classification task from those of its labels.

    Args:
        examples: The number of examples.
        micro_f1: 0 to 1.
        labels: Scores of the labels that occur. The standard error of macro F1 assumes that they are independent.
    """
    number = max(len(labels), 1)
    macro_f1 = sum(scores.f1 for scores in labels.values()) / number
    variance = sum(proportion_error(scores.f1, scores.support) ** 2 for scores in labels.values())
    return TaskScores(
        examples=examples,
        metrics={"micro_f1": micro_f1, "macro_f1": macro_f1},
        labels=labels,
        errors={"macro_f1": math.sqrt(variance) / number},
    )


def most_frequent_labels(train: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """The labels that a trivial classifier predicts for every example.

    Args:
        train: The labels of each training example.

    Returns:
        The most frequent labels, as many as an example has on average, but at least one. Empty without labels.

    >>> most_frequent_labels([("impact",), ("impact",), ("execution",)])
    ('impact',)
    """
    counts: dict[str, int] = {}
    number = 0
    for labels in train:
        number += 1
        for label in labels:
            counts[label] = counts.get(label, 0) + 1
    if not counts:
        return ()
    per_example = max(1, round(sum(counts.values()) / number))
    return tuple(sorted(counts, key=lambda label: (-counts[label], label))[:per_example])
