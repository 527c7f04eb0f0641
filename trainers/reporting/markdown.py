"""Text in Markdown documents: whatever a feed calls something, it is shown as it is."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#$~!&])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def markdown_text(text: str) -> str:
    r"""A text on one line, in which nothing is markup.

    >>> markdown_text("$\\x$ | [a](b)\n<i>")
    '\\$\\\\x\\$ \\| \\[a\\](b) \\<i\\>'
    """
    return _SPECIAL.sub(r"\\\1", _CONTROL.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split())))
