"""Counts of labels, as a dictionary without zeros."""

from __future__ import annotations


def add_labels(counts: dict[str, int], labels: tuple[str, ...], amount: int) -> None:
    """Add an amount to the count of each label, in place. Labels whose count becomes 0 are removed.

    >>> counts = {"impact": 1}
    >>> add_labels(counts, ("impact", "execution"), 2)
    >>> add_labels(counts, ("execution",), -2)
    >>> counts
    {'impact': 3}
    """
    for label in labels:
        total = counts.get(label, 0) + amount
        if total:
            counts[label] = total
        else:
            counts.pop(label, None)
