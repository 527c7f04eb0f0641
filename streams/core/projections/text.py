"""Plain text from the descriptions of a feed."""

from __future__ import annotations

import re
from collections.abc import Callable

from schemas.text import text_or_nothing

MAX_TEXT_CHARS = 8_000
"""Longer texts are truncated. No encoder here reads further, and journal records stay small."""

CleanText = Callable[[str], str]
"""`clean_text`, or a version of it that remembers its results."""

_CITATION = re.compile(r"\(Citation: [^)]{0,300}\)")
_LINK = re.compile(r"\[([^\]\[]{1,300})\]\([^()\s]{0,500}\)")
_TAG = re.compile(r"</?(?:code|br|p|i|b|ul|li)\s*/?>", re.IGNORECASE)


def clean_text(text: str) -> str:
    """Remove the markup of ATT&CK from a text: citations, link targets and HTML tags.

    Args:
        text: A description, of any length. Only the first `4 * MAX_TEXT_CHARS` characters are read.

    Returns:
        One line of at most `MAX_TEXT_CHARS` characters, without whitespace at its ends. Empty for an empty text,
        and for one that means nothing, such as `None`.

    >>> clean_text("[Shamoon](https://x.test/S0140) obtains the time.(Citation: Palo Alto 2016)")
    'Shamoon obtains the time.'
    """
    text = text[: 4 * MAX_TEXT_CHARS]
    if "(Citation: " in text:  # this test is ten times as fast as a substitution that finds nothing
        text = _CITATION.sub("", text)
    if "](" in text:
        text = _LINK.sub(r"\1", text)
    if "<" in text:
        text = _TAG.sub("", text)
    return text_or_nothing(" ".join(text.split())[:MAX_TEXT_CHARS])
