"""The labels of the two tasks: tactics, of which a text has any number, and severities, of which it has one.

The columns of the head are labels of both tasks; severities are named `severity:high`. An example counts for a task
if it has a label of that task.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainers.core.dataset import OffsetExample
from trainers.core.metrics.classification import TASKS


def label_sets(examples: Sequence[OffsetExample]) -> list[tuple[str, ...]]:
    """The labels of each example."""
    return [example.labels for _, example in examples]


def texts_of(examples: Sequence[OffsetExample]) -> list[str]:
    """The text of each example."""
    return [example.text for _, example in examples]


def columns_by_task(labels: Sequence[str]) -> dict[str, list[int]]:
    """Task -> its columns, for the tasks that have any.

    >>> columns_by_task(["execution", "severity:high", "impact"])
    {'tactics': [0, 2], 'severity': [1]}
    """
    columns = {task: [i for i, label in enumerate(labels) if belongs(label)] for task, belongs in TASKS.items()}
    return {task: of_task for task, of_task in columns.items() if of_task}


def rows_of_task(sets: Sequence[Sequence[str]], task: str) -> list[int]:
    """The indices of the label sets that have a label of a task.

    >>> rows_of_task([("severity:high",), ("impact",), ()], "severity")
    [0]
    """
    return [row for row, labels in enumerate(sets) if any(map(TASKS[task], labels))]
