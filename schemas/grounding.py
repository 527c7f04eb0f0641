"""Whether a sentence says only what a context says: its ids, its tactics and its names are in there.

The server leaves out sentences that say more, and the evaluation of a language model counts them.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from schemas.ids import ID_IN_TEXT

_TACTICS = (
    "reconnaissance", "resource development", "initial access", "execution", "persistence", "privilege escalation",
    "defense evasion", "stealth", "defense impairment", "credential access", "discovery", "lateral movement",
    "collection", "command and control", "exfiltration", "impact", "inhibit response function",
    "impair process control",
)  # fmt: skip
"""Of all releases and domains of ATT&CK, as they are written in a sentence."""
_ABOUT_TACTICS = re.compile(r"\b(tactics?|serves)\b", re.IGNORECASE)
_NAME = re.compile(r"(?<![.!?:]\s)(?<!^)\b[A-Z][\w.-]*(?:\s+(?:[A-Z0-9][\w.-]*))*")
_ALWAYS = frozenset(("att&ck", "mitre", "att", "ck", "it", "ics", "cve", "the", "mobile"))


def ids(text: str) -> list[str]:
    """The ids in a text, in capitals, in order.

    >>> ids("t1055.001 and M1040, not T10")
    ['T1055.001', 'M1040']
    """
    return [found.upper() for found in ID_IN_TEXT.findall(text)]


def ungrounded(sentence: str, context: str, tactics: Collection[str]) -> str:
    """What a sentence names and the context does not.

    Args:
        sentence: One sentence.
        context: All that it may say.
        tactics: Those of the subject. A sentence about tactics may name these alone. Elsewhere `execution` is a
            word like any other, and a tactic of several words counts unless the context has it somewhere.

    Returns:
        A reason such as `it names T1056`; empty if the context has everything.

    >>> ungrounded("It serves the tactic execution.", "Lua (T1) serves impact", ("impact",))
    'it names the tactic execution'
    """
    everything = context.lower()
    known = set(ids(context))
    if unknown := [found for found in ids(sentence) if found not in known]:
        return f"it names {', '.join(unknown)}"
    if wrong := _wrong_tactics(sentence.lower(), everything, tactics):
        return f"it names the tactic {', '.join(wrong)}"
    names = [found.strip(".-") for found in _NAME.findall(sentence)]
    if strange := [name for name in names if name.lower() not in _ALWAYS and name.lower() not in everything]:
        return f"it names {', '.join(strange)}"
    return ""


def tactics_in(sentence: str) -> list[str]:
    """The tactics that a sentence names. A tactic of one word counts only in a sentence about tactics.

    >>> tactics_in("It serves impact."), tactics_in("The impact is low, after lateral movement.")
    (['impact'], ['lateral movement'])
    """
    said = sentence.lower()
    named = [tactic for tactic in _TACTICS if re.search(rf"\b{tactic}\b", said)]
    return named if _ABOUT_TACTICS.search(said) else [tactic for tactic in named if " " in tactic]


def names_in(text: str, names: Collection[str]) -> list[str]:
    """The names that occur in a text, in order, upper or lower case, with hyphens or spaces.

    Of several names that begin at the same word, it is the longest.

    >>> names_in("This serves Defense-Evasion, with impact.", ["impact", "evasion", "defense evasion"])
    ['defense evasion', 'impact']
    """
    if not names:
        return []
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    by_normalized = {_normalized(name): name for name in reversed(longest_first)}
    pattern = "|".join(re.escape(_normalized(name)) for name in longest_first)
    found = re.findall(rf"\b(?:{pattern})\b", _normalized(text))
    return [by_normalized[name] for name in dict.fromkeys(found)]


def _normalized(text: str) -> str:
    return " ".join(text.lower().replace("-", " ").split())


def _wrong_tactics(sentence: str, everything: str, tactics: Collection[str]) -> list[str]:
    own = {tactic.replace("-", " ") for tactic in tactics}
    named = [tactic for tactic in tactics_in(sentence) if tactic not in own]
    if _ABOUT_TACTICS.search(sentence):
        return named
    return [tactic for tactic in named if tactic not in everything]
