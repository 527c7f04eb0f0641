"""Scores of two tasks: micro and macro F1, and precision, recall, F1 and support per label.

    task        an example has    key of a split    micro F1 is
    tactics     any number        `old`             over all pairs of example and tactic
    severity    one of five       `old_severity`    the accuracy

An example counts for a task if it has a label of it.

Macro F1 is the mean over the labels that occur in the examples, those the model doesn't know included: a
label that it can't predict counts as missed, not as absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.taxonomy import is_severity

TASKS: Mapping[str, Callable[[str], bool]] = {"": lambda label: not is_severity(label), "_severity": is_severity}
"""What a task adds to the name of a split -> whether a label is one of its labels."""

Marks = npt.NDArray[np.bool_]
"""Examples x labels: which example has which label."""


class LabelScore(msgspec.Struct, frozen=True):
    """How one label is predicted; `support` is how many examples have it."""

    precision: float
    recall: float
    f1: float
    support: int


class Scores(msgspec.Struct, frozen=True):
    """How a set of examples is predicted; all zero for no examples. `labels` has those that occur in them."""

    examples: int
    micro_f1: float
    macro_f1: float
    labels: dict[str, LabelScore]


def all_labels(known: Sequence[str], examples: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """The labels of a model in their order, then those that only the examples have, sorted."""
    others = {label for labels in examples for label in labels} - set(known)
    return (*known, *sorted(others))


def marks(examples: Sequence[Sequence[str]], labels: Sequence[str]) -> Marks:
    """Which example has which label; labels not in `labels` are passed over.

    >>> marks([("impact",), ()], ["execution", "impact"]).tolist()
    [[False, True], [False, False]]
    """
    column = {label: i for i, label in enumerate(labels)}
    out = np.zeros((len(examples), len(labels)), dtype=np.bool_)
    for row, names in enumerate(examples):
        out[row, [column[name] for name in names if name in column]] = True
    return out


def score(truth: Marks, predicted: Marks, labels: Sequence[str]) -> Scores:
    """Compare predictions with the truth.

    Args:
        truth, predicted: Examples x labels, of the same shape.
        labels: Names of the columns.
    """
    from sklearn.metrics import precision_recall_fscore_support  # seconds to import, and settings reach here

    if not truth.size:
        return Scores(0, 0.0, 0.0, {})
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predicted, average=None, zero_division=0
    )
    occurring = {
        label: LabelScore(float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
        for i, label in enumerate(labels)
        if support[i]
    }
    _, _, micro, _ = precision_recall_fscore_support(truth, predicted, average="micro", zero_division=0)
    macro = float(np.mean([one.f1 for one in occurring.values()])) if occurring else 0.0
    return Scores(len(truth), float(micro), macro, occurring)


def most_frequent(train: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """What the simplest predictor says of everything: as many of the most frequent labels as an example has on
    average, at least one where there are any.

    >>> most_frequent([("impact",), ("impact",), ("execution",)])
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


def flat(splits: Mapping[str, Scores]) -> dict[str, float]:
    """Scores of several splits as one flat table.

    >>> flat({"recent": Scores(2, 0.5, 0.25, {})})
    {'recent_micro_f1': 0.5, 'recent_macro_f1': 0.25, 'recent_examples': 2.0}
    """
    out: dict[str, float] = {}
    for name, scores in splits.items():
        out |= {
            f"{name}_micro_f1": scores.micro_f1,
            f"{name}_macro_f1": scores.macro_f1,
            f"{name}_examples": float(scores.examples),
        }
    return out


def per_label(splits: Mapping[str, Scores]) -> dict[str, dict[str, float]]:
    """How each label of each task is predicted on the whole holdout."""
    tasks = (splits[f"holdout{task}"] for task in TASKS if f"holdout{task}" in splits)
    return {label: msgspec.to_builtins(found) for scores in tasks for label, found in scores.labels.items()}


def macro_f1(scores: Mapping[str, float], before: Mapping[str, float]) -> str:
    """The holdout's macro F1 of each task, and what it was before, in words.

    >>> macro_f1({"holdout_macro_f1": 0.8, "holdout_severity_macro_f1": 0.7}, {"holdout_macro_f1": 0.75})
    'macro F1 0.800 (before 0.750), severity macro F1 0.700'
    """
    said = []
    for task in TASKS:
        name = f"holdout{task}_macro_f1"
        if name in scores:
            was = f" (before {before[name]:.3f})" if name in before else ""
            said.append(f"{task.removeprefix('_')} macro F1 {scores[name]:.3f}{was}".strip())
    return ", ".join(said)
