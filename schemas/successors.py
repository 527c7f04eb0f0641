"""Which id stands for one that was revoked: one rule for all that follow revocations."""

from __future__ import annotations

from collections.abc import Callable

MAX_SUCCESSORS = 20
"""Longest chain of revocations that is followed. The longest in ATT&CK has two."""


def chain(id_: str, revoked_by: Callable[[str], str | None]) -> list[str]:
    """An id and those that replaced it, one after the other; the last one stands for it today.

    Of a circle, and of a chain that is too long, nothing is believed: the id stands for itself.

    Args:
        id_: The id.
        revoked_by: Id -> the id that replaced it; empty or None if it was not revoked.

    >>> replaced = {"T1": "T2", "T2": "T3", "T8": "T9", "T9": "T8"}
    >>> chain("T1", replaced.get), chain("T3", replaced.get), chain("T8", replaced.get)
    (['T1', 'T2', 'T3'], ['T3'], ['T8'])
    """
    found = [id_]
    while following := revoked_by(found[-1]):
        if following in found or len(found) > MAX_SUCCESSORS:
            return [id_]
        found.append(following)
    return found
