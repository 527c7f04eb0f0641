"""Lists and shortened texts as they are written in a sentence."""

from __future__ import annotations

from collections.abc import Sequence


def describe_tactics(tactics: Sequence[str]) -> str:
    """Tactics as they are written in a sentence. There must be at least one.

    >>> describe_tactics(("command-and-control",)), describe_tactics(("impact", "defense-evasion"))
    ('the tactic command and control', 'the tactics impact and defense evasion')
    """
    words = [tactic.replace("-", " ") for tactic in tactics]
    return f"the tactic{'s' if len(words) > 1 else ''} {enumerate_words(words)}"


def enumerate_words(words: Sequence[str]) -> str:
    """Words as they are listed in a sentence. There must be at least one.

    >>> enumerate_words(["a", "b", "c"])
    'a, b and c'
    """
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def truncate(text: str, max_chars: int) -> str:
    """Truncate a text after its last whole sentence, or after its last whole word if no sentence fits.

    Args:
        text: Any text; one that fits is returned as it is.
        max_chars: Limit in characters, at least 1. The ` ...` after a truncated sentence is not counted.

    >>> truncate("One is short. Two is longer.", 20), truncate("no sentence ends here", 12)
    ('One is short.', 'no sentence ...')
    """
    if len(text) <= max_chars:
        return text
    head = text[: max_chars + 1]
    sentence_end = max(head.rfind(ending) for ending in (". ", "! ", "? ", ".) "))
    if sentence_end > 0:
        return head[: sentence_end + 1].rstrip()
    return f"{head[: max(head.rfind(' '), 0)] or head[:max_chars]} ..."
