"""The words of a text, by their stems: "dumped" and "dumping" are one word.

The rules are a few endings of English. They were compared with whole words on sentences of a later ATT&CK release:
docs/experiments.md.
"""

from __future__ import annotations

import re

MIN_STEM = 4
"""Shortest stem, characters; an ending that would leave less stays."""

_WORD = re.compile(r"\b\w\w+\b")
_ENDING = re.compile(r"(?:ations?|ators?|ating|ated|ates?|ings?|ed|ers?|es|s|ions?|ive|ly|al|ment|e)$")


def stems(text: str) -> list[str]:
    """The stems of the words of a text, in order, in lower case. Words with digits, such as ids, stay whole.

    >>> stems("Dumping credentials dumped by T1003 rundll32")
    ['dump', 'credential', 'dump', 'by', 't1003', 'rundll32']
    """
    return [_stem(word) for word in _WORD.findall(text.lower())]


def _stem(word: str) -> str:
    if len(word) <= MIN_STEM or any(char.isdigit() for char in word):
        return word
    stem = _ENDING.sub("", word)
    return stem if len(stem) >= MIN_STEM else word
