"""How well a model does its tasks: `Evaluation` is task -> split -> `TaskScores`.

task         what is predicted                                             model
tactics      the ATT&CK tactics of a text or a technique (multi-label)     distilbert-mitre, gnn-threat
severity     one of five severities of a text (multi-class)                distilbert-mitre
techniques   the techniques that go with an actor or a tool (ranking)      gnn-threat
answers      the tokens of an answer (language modelling)                  phi3-mitre-lora

split         examples
old, recent   holdout examples from before the trained windows, and from within them
holdout       both of these together
prequential   training examples of the windows, scored by the champion before anyone trained on them
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

TACTICS, SEVERITY, TECHNIQUES, ANSWERS = "tactics", "severity", "techniques", "answers"
OLD, RECENT, HOLDOUT, PREQUENTIAL = "old", "recent", "holdout", "prequential"


class LabelScores(msgspec.Struct, frozen=True):
    """How one label is predicted: precision, recall and F1, 0 to 1; `support` is the number of examples with it."""

    precision: float
    recall: float
    f1: float
    support: int


class TaskScores(msgspec.Struct, frozen=True, omit_defaults=True):
    """How well one task is done on the examples of one split.

    Attributes:
        examples: How many examples there are.
        metrics: Metric -> value, 0 to 1, higher is better. The gate compares each of them. All 0 without examples.
        labels: Label -> its scores, for the labels that occur in the examples.
        errors: Metric -> its standard error, where that is not the standard error of a proportion.
        extra: Metric -> value, for metrics that are shown and not compared.
    """

    examples: int
    metrics: dict[str, float] = {}
    labels: dict[str, LabelScores] = {}
    errors: dict[str, float] = {}
    extra: dict[str, float] = {}

    def error(self, metric: str) -> float:
        """The standard error of a metric: that in `errors`, else that of a proportion of the examples."""
        return self.errors.get(metric, proportion_error(self.metrics[metric], self.examples))


Evaluation = dict[str, dict[str, TaskScores]]
"""Task -> split -> scores. The first task is the main one of the model."""


def proportion_error(proportion: float, number: int) -> float:
    """Standard error of a proportion of `number` examples; 0 for no examples.

    >>> proportion_error(0.5, 100)
    0.05
    """
    return math.sqrt(proportion * (1.0 - proportion) / number) if number else 0.0


def merge(*evaluations: Mapping[str, Mapping[str, TaskScores]]) -> Evaluation:
    """All splits of several evaluations, task by task; of two with the same split the later one counts."""
    merged: Evaluation = {}
    for evaluation in evaluations:
        for task, splits in evaluation.items():
            merged[task] = merged.get(task, {}) | dict(splits)
    return merged


def of_split(evaluation: Mapping[str, Mapping[str, TaskScores]], split: str) -> dict[str, TaskScores]:
    """Task -> its scores on one split, for the tasks that have it."""
    return {task: splits[split] for task, splits in evaluation.items() if split in splits}


def summary(evaluation: Mapping[str, Mapping[str, TaskScores]]) -> Evaluation:
    """The evaluation without the scores of single labels and without errors, small enough for a message."""
    return {
        task: {
            split: TaskScores(examples=scores.examples, metrics=scores.metrics, extra=scores.extra)
            for split, scores in splits.items()
        }
        for task, splits in evaluation.items()
    }


_FORMER_EXTRAS = frozenset(("ece", "perplexity", "tactic_named", "mitigation_named"))
_FORMER_MAIN_TASKS = {"recall_at_20": TECHNIQUES, "token_accuracy": ANSWERS}


def from_flat(scores: Mapping[str, float]) -> Evaluation:
    """Read scores as records held them before they were nested: `<split>[_<task>]_<metric>` -> value.

    >>> from_flat({"holdout_severity_micro_f1": 0.5})["severity"]["holdout"].metrics
    {'micro_f1': 0.5}
    """
    named = (task for metric, task in _FORMER_MAIN_TASKS.items() if any(name.endswith(metric) for name in scores))
    main = next(named, TACTICS)
    flat: dict[tuple[str, str], dict[str, float]] = {}
    for name, value in scores.items():
        split, _, rest = name.partition("_")
        task, _, metric = rest.partition("_")
        if task not in (SEVERITY, TACTICS):
            task, metric = main, rest
        flat.setdefault((task, split), {})[metric] = value
    evaluation: Evaluation = {}
    for (task, split), values in flat.items():
        examples = int(values.pop("examples", 0.0))
        extra = {name: values.pop(name) for name in list(values) if name in _FORMER_EXTRAS}
        evaluation.setdefault(task, {})[split] = TaskScores(examples=examples, metrics=values, extra=extra)
    return evaluation
