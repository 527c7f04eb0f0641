"""Evidence without the graph: what the examples that name techniques say of one."""

from __future__ import annotations

import re
from collections.abc import Iterable

from schemas.grounding import ids
from serving.answers.evidence import Evidence, Fact, Role
from serving.techniques.examples import TechniqueExample

MAX_FACTS = 12
"""Neighbours of one role."""
_ROLES: dict[str, tuple[Role, str]] = {
    "relationship": ("user", "Software or actor"),
    "template": ("rule", "Template"),
    "report": ("report", "Report"),
}


def evidence_from_examples(question: str, examples: Iterable[TechniqueExample]) -> Evidence | None:
    """What the examples know of the technique that a question names.

    Args:
        question: With the id of a technique, or its name.
        examples: Of `serving.techniques.store`.

    Returns:
        Without tactics, mitigations and detections, which examples do not have; None if no technique is named.
    """
    examples = list(examples)
    subject = _subject(question, [e for e in examples if e.key.startswith("technique:")])
    if subject is None:
        return None
    technique = subject.techniques[0]
    facts: dict[str, list[Fact]] = {}
    totals: dict[str, int] = {}
    for example in examples:
        kind = example.key.partition(":")[0]
        if kind not in _ROLES or technique not in example.techniques:
            continue
        role, label = _ROLES[kind]
        totals[role] = totals.get(role, 0) + 1
        name = example.key.partition(":")[2]
        source = f"{example.feed} {example.release}".strip() + f": {name}"
        fact = Fact(role=role, id=name, name=example.subject, kind=label, text=example.text, source=source)
        facts.setdefault(role, []).append(fact)
    return Evidence(
        id=technique,
        name=subject.subject,
        kind="Technique",
        source=f"{subject.feed} {subject.release}".strip() + f": {technique}",
        text=subject.text.removeprefix(f"{subject.subject}. "),
        facts=tuple(fact for found in facts.values() for fact in found[:MAX_FACTS]),
        totals=totals,
    )


def _subject(question: str, techniques: list[TechniqueExample]) -> TechniqueExample | None:
    if asked := ids(question):
        return next((each for each in techniques if each.techniques[0] in asked), None)
    named = [e for e in techniques if re.search(rf"\b{re.escape(e.subject)}\b", question, re.IGNORECASE)]
    return max((e for e in named if len(e.subject) > 3), key=lambda e: len(e.subject), default=None)
