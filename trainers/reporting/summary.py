"""Numbers and names of metrics for people, and the line that sums up a version."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.scores import HOLDOUT, Evaluation, TaskScores

HEADLINES = ("macro_f1", "perplexity", "recall_at_20")
"""The main metrics; each task has one of them."""
_NAMES = {("severity", "micro_f1"): "accuracy"}
"""(task, metric) -> its usual name, where it differs."""


def number(value: float, digits: int = 4) -> str:
    """A number with so many significant digits, or more rather than an exponent.

    >>> number(0.27411), number(7622.0), number(9999.7), number(20_000.0)
    ('0.2741', '7622', '10000', '20000')
    """
    return f"{value:.0f}" if abs(value) >= 10**digits - 0.5 else f"{value:.{digits}g}"


def metric_name(metric: str, task: str = "") -> str:
    """The display name of a metric.

    >>> metric_name("macro_f1"), metric_name("micro_f1", "severity"), metric_name("recall_at_20")
    ('macro F1', 'accuracy', 'recall@20')
    """
    name = _NAMES.get((task, metric), metric)
    return name.replace("_at_", "@").replace("_", " ").replace(" f1", " F1").replace("ndcg", "NDCG")


def qualified_name(metric: str, task: str, main_task: str) -> str:
    """The display name of a metric, preceded by its task unless that is the main task.

    >>> qualified_name("macro_f1", "severity", "tactics")
    'severity macro F1'
    """
    return metric_name(metric, task) if task == main_task else f"{task} {metric_name(metric, task)}"


def values_of(scores: TaskScores) -> dict[str, float]:
    """All metrics of a task, including those that the gate does not compare."""
    return scores.metrics | scores.extra


def headline(evaluation: Evaluation, before: Evaluation) -> str:
    """The main metric of each task on the holdout, with its former value.

    Args:
        evaluation: Of the version.
        before: Of its parent; may be empty.

    >>> now, then = ({"tactics": {"holdout": TaskScores(9, {"macro_f1": f1})}} for f1 in (0.8, 0.75))
    >>> headline(now, then)
    'macro F1 0.800 (before 0.750)'
    """
    main_task = next(iter(evaluation), "")
    parts = []
    for task, splits in evaluation.items():
        values = values_of(splits[HOLDOUT]) if HOLDOUT in splits else {}
        metric = next((name for name in HEADLINES if name in values), None)
        if metric is not None:
            value = f"{qualified_name(metric, task, main_task)} {values[metric]:.3f}"
            parts.append(value + _before(before.get(task, {}), metric))
    return ", ".join(parts)


def _before(splits: Mapping[str, TaskScores], metric: str) -> str:
    values = values_of(splits[HOLDOUT]) if HOLDOUT in splits else {}
    return f" (before {values[metric]:.3f})" if metric in values else ""
