"""The sentences of a text, each with its place in it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

MAX_SENTENCE_CHARS = 1_000
"""A longer sentence, such as a list without full stops, is cut after a word."""

_END = re.compile(r"(?:[.!?][\"'”’)\]]*\s+(?=[\"'“‘(\[]?[A-Z0-9])|\n\s*\n\s*|\n\s*(?=[-*•‣▪–]\s|\d{1,2}[.)]\s))")
_NOT_AN_END = re.compile(
    r"(?:\b(?:etc|vs|cf|approx|Dr|Mr|Ms|Mrs|Inc|Ltd|Corp|Fig|No|al|Jan|Feb|Aug|Sept|Oct|Nov|Dec)"
    r"|(?<!\w)(?:\w\.)+\w|(?<![\w.])[A-Z])\.\s+$"
)
"""Abbreviations: of this list, of single letters (`e.g.`), and initials."""
_WORD = re.compile(r"\w")


class Sentence(msgspec.Struct, frozen=True):
    """A sentence: `text` is on one line; `start` and `end` are its place, half open, in characters."""

    start: int
    end: int
    text: str


def sentences(text: str) -> list[Sentence]:
    """The sentences of a text, in order.

    A blank line and a bullet end a sentence; a single line break does not.

    Args:
        text: Any text.

    >>> [s.text for s in sentences("APT29 ran cmd.exe, e.g. Mimikatz. It\\nleft.")]
    ['APT29 ran cmd.exe, e.g. Mimikatz.', 'It left.']
    """
    return [each for start, end in _spans(text) for each in _cut(text, start, end)]


def _spans(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for found in _END.finditer(text):
        if _NOT_AN_END.search(text, max(start, found.end() - 40), found.end()):
            continue
        yield start, found.end()
        start = found.end()
    yield start, len(text)


def _cut(text: str, start: int, end: int) -> Iterator[Sentence]:
    while start < end:
        stop = end
        if end - start > MAX_SENTENCE_CHARS:
            space = text.rfind(" ", start + 1, start + MAX_SENTENCE_CHARS)
            stop = space if space > start else start + MAX_SENTENCE_CHARS
        part = text[start:stop]
        if _WORD.search(part):
            left = start + len(part) - len(part.lstrip())
            yield Sentence(left, left + len(part.strip()), " ".join(part.split()))
        start = stop
