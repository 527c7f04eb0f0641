"""What a model says, checked against what it was given: a sentence that says more is left out.

id, tactic, name   what the sentence names is in the evidence (`schemas.grounding`)
words              most of its words are in what it names, or in one piece of the evidence, which become its sources
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from schemas.grounding import ungrounded
from serving.answers.evidence import Evidence
from serving.answers.facts import AnswerSentence
from serving.reports.sentences import sentences

MIN_SHARED_WORDS = 0.5
"""Share of the longer words of a sentence that must be in its sources."""

_WORD = re.compile(r"[a-z0-9][a-z0-9.-]{3,}")
_OF_ANY_SENTENCE = frozenset(("detected", "mitigated", "serves", "tactic", "tactics", "which", "with", "technique"))
"""Words that say nothing that could be wrong: they are not looked for in the sources."""


class Checked(msgspec.Struct, frozen=True):
    """The sentences that hold, and those that were left out, each with its reason."""

    sentences: tuple[AnswerSentence, ...]
    left_out: tuple[tuple[str, str], ...]


class _Piece(NamedTuple):
    """A part of the evidence: what it says, what it is called, and its source."""

    text: str
    called: tuple[str, ...]
    source: str


def check(text: str, evidence: Evidence) -> Checked:
    """Check a generated answer.

    Args:
        text: What the generator said.
        evidence: All that it may say.

    Returns:
        Each sentence that holds has as its sources the neighbours that it names and, where it names none, the piece
        of the evidence whose words it shares most.
    """
    pieces = _pieces(evidence)
    everything = " ".join(piece.text for piece in pieces)
    kept: list[AnswerSentence] = []
    left_out: list[tuple[str, str]] = []
    for sentence in sentences(text):
        reason = ungrounded(sentence.text, everything, evidence.tactics)
        found, shared = _sources(sentence.text, pieces)
        if not reason and shared < MIN_SHARED_WORDS:
            reason = f"only {shared:.0%} of its words are in what it names"
        if reason:
            left_out.append((sentence.text, reason))
        else:
            kept.append(AnswerSentence(sentence.text, found))
    return Checked(tuple(kept), tuple(left_out))


def _pieces(evidence: Evidence) -> Sequence[_Piece]:
    """The subject, then each neighbour."""
    own = " ".join((evidence.name, evidence.id, evidence.text, *evidence.aliases, *evidence.platforms))
    tactics = " ".join(tactic.replace("-", " ") for tactic in evidence.tactics)
    subject = f"{evidence.name} ({evidence.id})"
    pieces = [_Piece(f"{own} {tactics} sub-technique", (), evidence.source)]
    pieces += [
        _Piece(f"{subject} {tactics} {f.name} ({f.id}) {f.kind} {f.text} {f.role}", (f.id, f.name), f.source)
        for f in evidence.facts
    ]
    return pieces


def _sources(sentence: str, pieces: Sequence[_Piece]) -> tuple[tuple[str, ...], float]:
    """The sources of a sentence, and the share of its longer words that they have."""
    words = _words(sentence) - _OF_ANY_SENTENCE
    lower = sentence.lower()
    named = [p for p in pieces if any(re.search(rf"\b{re.escape(c.lower())}\b", lower) for c in p.called if c)]
    best = max(pieces, key=lambda piece: len(words & _words(piece.text)))
    chosen = named or [best]
    known = set().union(*(_words(piece.text) for piece in chosen))
    share = len(words & known) / len(words) if words else 0.0
    return tuple(dict.fromkeys(piece.source for piece in chosen)), share


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))
