"""Passages of a text: sentences next to each other, joined up to a length that a model reads whole."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Span(msgspec.Struct, frozen=True):
    """A part of a text: positions of characters, half open."""

    start: int
    end: int


def passages(parts: Sequence[Span], max_chars: int) -> list[Span]:
    """Sentences next to each other, joined up to a length.

    Args:
        parts: Sentences, in order.
        max_chars: Longest passage, in characters; a sentence that is longer is a passage of its own.

    >>> passages([Span(0, 5), Span(6, 10), Span(11, 30)], 12)
    [Span(start=0, end=10), Span(start=11, end=30)]
    """
    found: list[Span] = []
    for part in parts:
        if found and part.end - found[-1].start <= max_chars:
            found[-1] = Span(found[-1].start, part.end)
        else:
            found.append(part)
    return found
