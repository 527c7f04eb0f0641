"""An answer made of facts alone: no model is needed, and each sentence is what a feed says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from schemas.prose import describe_tactics, enumerate_words, truncate
from serving.answers.evidence import Evidence, Fact, Role

Intent = Literal["explain", "detect", "mitigate", "users", "techniques"]
"""What a question wants to know."""

ROLES: dict[Intent, tuple[Role, ...]] = {
    "explain": ("parent", "mitigation", "detection", "rule", "user", "technique"),
    "detect": ("detection", "rule"),
    "mitigate": ("mitigation",),
    "users": ("user", "report"),
    "techniques": ("technique",),
}
"""Neighbours that answer a question, most important first."""
MAX_FACTS = 5
"""Neighbours of one role that get a sentence of their own; the others are counted."""
MAX_FACT_CHARS = 400

_WORDS: dict[Intent, str] = {
    "detect": r"detect\w*|hunt\w*|notice\w*|find|sigma|rules?|monitor\w*|signs?",
    "mitigate": r"mitigat\w*|prevent\w*|protect\w*|harden\w*|stop\w*|defend\w*|block\w*",
    "users": r"who|which (?:groups?|actors?|campaigns?|malware|software)|used by|seen in",
    "techniques": r"techniques?|ttps?|tools of|what does \S+ (?:do|use)",
}
_INTENTS = {intent: re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for intent, words in _WORDS.items()}


class AnswerSentence(msgspec.Struct, frozen=True):
    """A sentence of an answer, and what says so: at least one feed with its release and an id."""

    text: str
    sources: tuple[str, ...]


def intent_of(question: str, kind: str) -> Intent:
    """What a question about a node of a kind wants to know.

    >>> intent_of("how do I detect T1055?", "Technique"), intent_of("what is T1055", "Technique")
    ('detect', 'explain')
    >>> intent_of("Which techniques does APT29 use?", "Group")
    'techniques'
    """
    for intent, words in _INTENTS.items():
        if words.search(question) and (intent != "techniques" or kind != "Technique"):
            return intent
    return "explain"


def fact_sentences(evidence: Evidence, intent: Intent) -> list[AnswerSentence]:
    """The answer to a question, from the evidence alone.

    Args:
        evidence: Of what the question is about.
        intent: What it wants to know.

    Returns:
        At least one sentence. One of them says so where nothing is known.
    """
    found = [_subject(evidence)]
    if intent == "explain" and evidence.text:
        found.append(AnswerSentence(truncate(evidence.text, 2 * MAX_FACT_CHARS), (evidence.source,)))
    for role in ROLES[intent]:
        found += _of_role(evidence, role, with_text=intent != "explain")
    if len(found) == 1 and intent != "explain":
        nothing = f"The graph has nothing that answers this about {evidence.name} ({evidence.id})."
        found.append(AnswerSentence(nothing, (evidence.source,)))
    return found


def _subject(evidence: Evidence) -> AnswerSentence:
    text = f"{evidence.name} ({evidence.id}) is a {_kind(evidence.kind)}"
    if evidence.tactics:
        text += f" that serves {describe_tactics(evidence.tactics)}"
    if evidence.severity:
        text += f" of severity {evidence.severity}"
    aliases = [alias for alias in evidence.aliases if alias != evidence.name]
    if aliases:
        text += f", also called {enumerate_words(aliases[:MAX_FACTS])}"
    if evidence.status != "active":
        replaced = f", replaced by {evidence.revoked_by}" if evidence.revoked_by else ""
        text += f"; its feed has it as {evidence.status}{replaced}"
    return AnswerSentence(f"{text}.", (evidence.source,))


def _of_role(evidence: Evidence, role: Role, with_text: bool) -> list[AnswerSentence]:
    facts = _distinct(evidence.of(role))
    if not facts:
        return []
    if with_text and role in ("mitigation", "detection"):
        verb = {"mitigation": "mitigates", "detection": "detects"}[role]
        sentences = [AnswerSentence(f"{_called(f)} {verb} it{_said(f)}", (f.source,)) for f in facts[:MAX_FACTS]]
        left = evidence.totals.get(role, len(facts)) - len(sentences)
        if left > 0:
            more = [_called(f) for f in facts[MAX_FACTS : 2 * MAX_FACTS]]
            named = f", such as {enumerate_words(more)}" if more else ""
            sources = tuple(f.source for f in facts[MAX_FACTS : 2 * MAX_FACTS]) or (evidence.source,)
            sentences.append(AnswerSentence(f"{left} more {_noun(role, left)} known{named}.", sources))
        return sentences
    shown = facts[: 2 * MAX_FACTS]
    total = max(evidence.totals.get(role, 0), len(facts))
    named = enumerate_words([_called(f) for f in shown])
    such_as = "such as " if total > len(shown) else ""
    return [
        AnswerSentence(f"{total} {_noun(role, total)} known: {such_as}{named}.", tuple(f.source for f in shown))
    ]


def _called(fact: Fact) -> str:
    """Name and id; some, such as the data components of ATT&CK, have no id that people use."""
    return f"{fact.name} ({fact.id})" if fact.id else fact.name


def _said(fact: Fact) -> str:
    return f": {truncate(fact.text, MAX_FACT_CHARS)}" if fact.text else "."


def _noun(role: Role, count: int) -> str:
    one = count == 1
    nouns = {
        "mitigation": ("mitigation is", "mitigations are"),
        "detection": ("source of detection is", "sources of detection are"),
        "rule": ("rule or test that covers it is", "rules or tests that cover it are"),
        "user": ("group, campaign or software that uses it is", "groups, campaigns and software that use it are"),
        "technique": ("technique of it is", "techniques of it are"),
        "parent": ("technique that it is part of is", "techniques that it is part of are"),
        "report": ("report that mentions it is", "reports that mention it are"),
        "other": ("neighbour is", "neighbours are"),
    }
    return nouns[role][0 if one else 1]


def _kind(label: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label).lower()


def _distinct(facts: Sequence[Fact]) -> list[Fact]:
    return list({fact.id or fact.name: fact for fact in reversed(facts)}.values())[::-1]
