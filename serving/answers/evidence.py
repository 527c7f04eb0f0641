"""What is known of one technique, actor, software or CVE: itself, and what is beside it in the graph."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.context import Context, Line, Question, as_text, fitted
from schemas.ids import ID_IN_TEXT
from schemas.prose import enumerate_words

Role = Literal["mitigation", "detection", "rule", "user", "technique", "parent", "report", "other"]
"""What a neighbour is to the subject: a `user` uses it; a `technique` is one that the subject uses or covers."""


class Fact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A neighbour of the subject.

    Attributes:
        role: See `Role`.
        id: What people call it (`M1040`), or its id in the graph; empty for what its feed gives no id for people.
        name: Its name.
        kind: Label of its node: `Mitigation`, `Group`, `Template`.
        text: What the feed says about the two together, or about the neighbour.
        source: The feed, its release, and the id of what says so.
        tactics: Of a technique.
    """

    role: Role
    id: str
    name: str
    kind: str
    source: str
    text: str = ""
    tactics: tuple[str, ...] = ()


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a subject.

    Attributes:
        id, name, kind, text, tactics, source: Of the subject, as in `Fact`.
        aliases: Other names of it.
        platforms: Systems that it is for.
        severity: Of a vulnerability.
        status: `active`, `deprecated`, `revoked` or `withdrawn`.
        revoked_by: Id of what replaced it.
        facts: Its neighbours, of each role at most as many as were asked for.
        totals: Role -> how many neighbours it has in all.
        similar: The nearest nodes by the embeddings of `gnn-threat`, where there are any.
    """

    id: str
    name: str
    kind: str
    source: str
    text: str = ""
    tactics: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    severity: str = ""
    status: str = "active"
    revoked_by: str = ""
    facts: tuple[Fact, ...] = ()
    totals: dict[str, int] = {}
    similar: tuple[Fact, ...] = ()

    def of(self, *roles: Role) -> list[Fact]:
        """The neighbours with one of some roles, in order."""
        return [fact for fact in self.facts if fact.role in roles]


def prompt_context(evidence: Evidence, question: Question) -> str:
    """The evidence as the context of a question in a prompt, in the form that `phi3-mitre-lora` is trained with.

    Args:
        evidence: Of a technique.
        question: What is asked; what answers it comes first where not everything fits.
    """
    lines = [Line(role="platforms", text=enumerate_words(evidence.platforms))] if evidence.platforms else []
    if evidence.text:
        lines.append(Line(role="description", text=evidence.text))
    for role in ("detection", "mitigation"):
        lines += [Line(role=role, name=fact.name, id=_id(fact), text=fact.text) for fact in evidence.of(role)]
    known = Context(name=evidence.name, id=evidence.id, tactics=evidence.tactics, lines=tuple(lines))
    return as_text([fitted(known, question)])


def _id(fact: Fact) -> str:
    """What people call a neighbour; nothing where it has only the id of its node."""
    return fact.id if ID_IN_TEXT.fullmatch(fact.id) else ""
