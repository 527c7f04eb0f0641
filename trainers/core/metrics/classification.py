"""Scores of a model on sets of examples, and those of label tasks: micro and macro F1, and each label's.

    split                                        and task          key
    old, recent, holdout (both), prequential     the main one      `old`
                                                 another           `old_severity`, `old_tactics`

Of `distilbert-mitre` the main task is the tactics of a text, of which it has any number; the other is its severity,
one of five, whose micro F1 is the accuracy. An example counts for a task if it has a label of it.

Macro F1 is the mean over the labels that occur in the examples, those the model doesn't know included: a
label that it can't predict counts as missed, not as absent.
"""

from __future__ import annotations

import math
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
    """How well a set of examples is predicted.

    Attributes:
        examples: How many there are.
        figures: Name -> value, 0 to 1, higher is better; the gate judges each of them. All 0 for no examples.
        labels: Label -> its scores, of those that occur in the examples.
        errors: Figure -> its standard error, where that isn't the error of a proportion.
        extra: What is shown and not judged.
    """

    examples: int
    figures: dict[str, float] = {}
    labels: dict[str, LabelScore] = {}
    errors: dict[str, float] = {}
    extra: dict[str, float] = {}

    def error(self, figure: str) -> float:
        """Standard error of a figure; that of a proportion of the examples unless `errors` has another."""
        return self.errors.get(figure, proportion_error(self.figures[figure], self.examples))


def proportion_error(share: float, number: int) -> float:
    """Standard error of a share of `number` examples; 0 for none.

    >>> proportion_error(0.5, 100)
    0.05
    """
    return math.sqrt(share * (1.0 - share) / number) if number else 0.0


HEADLINES: Mapping[str, str] = {"macro_f1": "macro F1", "perplexity": "perplexity", "recall_at_20": "recall@20"}
"""Figure or extra by which a task is summed up in a line -> what it is called there."""


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
        return label_scores(0, 0.0, {})
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predicted, average=None, zero_division=0
    )
    occurring = {
        label: LabelScore(float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
        for i, label in enumerate(labels)
        if support[i]
    }
    _, _, micro, _ = precision_recall_fscore_support(truth, predicted, average="micro", zero_division=0)
    return label_scores(len(truth), float(micro), occurring)


def label_scores(examples: int, micro_f1: float, labels: dict[str, LabelScore]) -> Scores:
    """Scores of a label task; the macro F1 is the mean over labels, taken as independent for its error."""
    number = max(len(labels), 1)
    macro_f1 = sum(one.f1 for one in labels.values()) / number
    variance = sum(proportion_error(one.f1, one.support) ** 2 for one in labels.values())
    return Scores(
        examples,
        {"micro_f1": micro_f1, "macro_f1": macro_f1},
        labels,
        {"macro_f1": math.sqrt(variance) / number},
    )


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

    >>> flat({"recent": Scores(2, {"micro_f1": 0.5}, extra={"ece": 0.1})})
    {'recent_micro_f1': 0.5, 'recent_ece': 0.1, 'recent_examples': 2.0}
    """
    out: dict[str, float] = {}
    for name, scores in splits.items():
        out |= {f"{name}_{figure}": value for figure, value in (scores.figures | scores.extra).items()}
        out[f"{name}_examples"] = float(scores.examples)
    return out


def per_label(splits: Mapping[str, Scores]) -> dict[str, dict[str, float]]:
    """How each label of each task is predicted on the whole holdout."""
    tasks = (scores for name, scores in splits.items() if name.startswith(HOLDOUT))
    return {label: msgspec.to_builtins(found) for scores in tasks for label, found in scores.labels.items()}


HOLDOUT = "holdout"


def tasks_of(names: Iterable[str]) -> tuple[str, ...]:
    """What the tasks add to the names of splits, in order; `names` has the holdout of each.

    >>> tasks_of(["old", "old_severity", "holdout", "holdout_severity"])
    ('', '_severity')
    """
    return tuple(name.removeprefix(HOLDOUT) for name in names if name.startswith(HOLDOUT))


def tasks_in(scores: Mapping[str, float]) -> tuple[str, ...]:
    """The tasks of a flat table.

    >>> tasks_in({"holdout_macro_f1": 0.8, "holdout_examples": 9.0, "holdout_severity_examples": 2.0})
    ('', '_severity')
    """
    return tasks_of(name.removesuffix("_examples") for name in scores if name.endswith("_examples"))


def headlines(scores: Mapping[str, float]) -> dict[str, str]:
    """Name in a flat table -> in words, of the one figure of each task's holdout that sums it up.

    >>> headlines({"holdout_macro_f1": 0.8, "holdout_examples": 9.0})
    {'holdout_macro_f1': 'macro F1'}
    """
    found: dict[str, str] = {}
    for task in tasks_in(scores):
        for figure, words in HEADLINES.items():
            if (name := f"{HOLDOUT}{task}_{figure}") in scores:
                found[name] = f"{task.removeprefix('_')} {words}".strip()
                break
    return found


def summary(scores: Mapping[str, float], before: Mapping[str, float]) -> str:
    """What sums up each task on the holdout, and what it was before, in words.

    >>> summary({"holdout_macro_f1": 0.8, "holdout_examples": 9.0}, {"holdout_macro_f1": 0.75})
    'macro F1 0.800 (before 0.750)'
    """
    return ", ".join(
        f"{words} {scores[name]:.3f}" + (f" (before {before[name]:.3f})" if name in before else "")
        for name, words in headlines(scores).items()
    )
