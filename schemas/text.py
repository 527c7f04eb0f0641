"""Values of a feed that mean nothing, such as the platform "None": one rule for all text made of fields."""

from __future__ import annotations

from collections.abc import Iterable

_NOTHING = frozenset(("", "-", "n/a", "nan", "nil", "none", "not applicable", "null", "undefined"))
_MAX_CHARS = 40
"""A longer value means something, whatever it is."""


def means_something(value: str) -> bool:
    """Whether a value says anything.

    >>> means_something("Windows"), means_something("None"), means_something(" n/a ")
    (True, False, False)
    """
    return len(value) > _MAX_CHARS or value.strip().lower() not in _NOTHING


def meaningful(values: Iterable[str]) -> tuple[str, ...]:
    """The values that say anything, in their order.

    >>> meaningful(["None", "Linux", ""])
    ('Linux',)
    """
    return tuple(filter(means_something, values))


def text_or_nothing(text: str) -> str:
    """The text itself, or an empty one if it means nothing.

    >>> text_or_nothing("N/A"), text_or_nothing("None of them.")
    ('', 'None of them.')
    """
    return text if means_something(text) else ""
