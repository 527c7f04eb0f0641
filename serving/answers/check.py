"""What a model says, checked against what it was given: a sentence that says more is left out.

id         every id of ATT&CK or CVE in the sentence is in the evidence
tactic     every tactic that it names is one of the subject
name       every name in it, words in capitals that do not begin the sentence, is in the evidence
words      most of its words are in one piece of the evidence, which becomes its source
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from schemas.ids import ID_IN_TEXT
from serving.answers.evidence import Evidence
from serving.answers.facts import AnswerSentence
from serving.reports.sentences import sentences

MIN_SHARED_WORDS = 0.5
"""Share of the longer words of a sentence that must be in its source."""

_TACTICS = (
    "reconnaissance", "resource development", "initial access", "execution", "persistence", "privilege escalation",
    "defense evasion", "stealth", "defense impairment", "credential access", "discovery", "lateral movement",
    "collection", "command and control", "exfiltration", "impact", "inhibit response function",
    "impair process control",
)  # fmt: skip
"""Of all releases and domains of ATT&CK, as they are written in a sentence."""
_ABOUT_TACTICS = re.compile(r"\b(tactics?|serves)\b", re.IGNORECASE)
_NAME = re.compile(r"(?<![.!?:]\s)(?<!^)\b[A-Z][\w.-]*(?:\s+(?:[A-Z0-9][\w.-]*))*")
_WORD = re.compile(r"[a-z0-9][a-z0-9.-]{3,}")
_ALWAYS = frozenset(("att&ck", "mitre", "att", "ck", "it", "ics", "cve", "the", "mobile"))


class Checked(msgspec.Struct, frozen=True):
    """The sentences that hold, and those that were left out, each with its reason."""

    sentences: tuple[AnswerSentence, ...]
    left_out: tuple[tuple[str, str], ...]


def check(text: str, evidence: Evidence) -> Checked:
    """Check a generated answer.

    Args:
        text: What the generator said.
        evidence: All that it may say.

    Returns:
        Each sentence that holds has the source whose words it shares most.
    """
    pieces = _pieces(evidence)
    everything = " ".join(piece for piece, _ in pieces).lower()
    kept: list[AnswerSentence] = []
    left_out: list[tuple[str, str]] = []
    for sentence in sentences(text):
        reason = _unknown(sentence.text, evidence, everything)
        source, shared = _source(sentence.text, pieces)
        if not reason and shared < MIN_SHARED_WORDS:
            reason = f"only {shared:.0%} of its words are in one source"
        if reason:
            left_out.append((sentence.text, reason))
        else:
            kept.append(AnswerSentence(sentence.text, (source,)))
    return Checked(tuple(kept), tuple(left_out))


def _unknown(sentence: str, evidence: Evidence, everything: str) -> str:
    """What the sentence names and the evidence does not; empty if nothing."""
    known_ids = {found.upper() for found in ID_IN_TEXT.findall(everything)}
    if ids := [found for found in ID_IN_TEXT.findall(sentence) if found.upper() not in known_ids]:
        return f"it names {', '.join(ids)}"
    if wrong := _wrong_tactics(sentence.lower(), evidence, everything):
        return f"it names the tactic {', '.join(wrong)}"
    names = [found.strip(".-") for found in _NAME.findall(sentence)]
    if unknown := [name for name in names if name.lower() not in _ALWAYS and name.lower() not in everything]:
        return f"it names {', '.join(unknown)}"
    return ""


def _wrong_tactics(sentence: str, evidence: Evidence, everything: str) -> list[str]:
    """Tactics that the sentence names and the subject has not.

    A sentence about tactics may name those of the subject alone. Elsewhere `execution` is a word like any other,
    and one of several words counts unless the evidence has it somewhere.
    """
    own = {tactic.replace("-", " ") for tactic in evidence.tactics}
    named = [tactic for tactic in _TACTICS if tactic not in own and re.search(rf"\b{tactic}\b", sentence)]
    if _ABOUT_TACTICS.search(sentence):
        return named
    return [tactic for tactic in named if " " in tactic and tactic not in everything]


def _pieces(evidence: Evidence) -> Sequence[tuple[str, str]]:
    """(text, source) of the subject and of each neighbour."""
    own = " ".join((evidence.name, evidence.id, evidence.text, *evidence.aliases, *evidence.platforms))
    tactics = " ".join(tactic.replace("-", " ") for tactic in evidence.tactics)
    subject = f"{evidence.name} ({evidence.id})"
    pieces = [(f"{own} {tactics} tactic tactics serves technique sub-technique", evidence.source)]
    pieces += [(f"{subject} {f.name} ({f.id}) {f.kind} {f.text} {f.role}", f.source) for f in evidence.facts]
    return pieces


def _source(sentence: str, pieces: Iterable[tuple[str, str]]) -> tuple[str, float]:
    """The source that shares most of the longer words of a sentence, and the share."""
    words = set(_WORD.findall(sentence.lower()))
    best, share = "", 0.0
    for text, source in pieces:
        shared = len(words & set(_WORD.findall(text.lower()))) / len(words) if words else 0.0
        if shared > share:
            best, share = source, shared
    return best, share
