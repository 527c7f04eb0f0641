"""Expressions that several rules and panels have."""

from __future__ import annotations


def grown(counter: str, window: str, by: str) -> str:
    """By how much a counter grew within a time, also if its series is younger than that.

    `increase` does not see the first value of a series, and a counter with labels has no series before that.

    Args:
        counter: A counter, with or without a selector of its labels.
        window: The time, such as `6h`.
        by: The labels of the sum.
    """
    new = f"({counter} unless {counter} offset {window})"
    return f"(sum by ({by}) ({new}) or sum by ({by}) (increase({counter}[{window}])))"
