"""What is known of one technique, actor, software or CVE: itself, and what is beside it in the graph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

Role = Literal["mitigation", "detection", "rule", "user", "technique", "parent", "report", "other"]
"""What a neighbour is to the subject: a `user` uses it; a `technique` is one that the subject uses or covers."""


class Fact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A neighbour of the subject.

    Attributes:
        role: See `Role`.
        id: What people call it (`M1040`), or its id in the graph.
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


def context(evidence: Evidence, roles: Iterable[Role], max_chars: int) -> str:
    """The evidence as lines of text, for a prompt.

    Args:
        evidence: Of the subject.
        roles: Neighbours that matter for the question, most important first.
        max_chars: Limit; lines that do not fit are left out.

    Returns:
        The subject, then one line for each neighbour.
    """
    tactics = f" Tactics: {', '.join(evidence.tactics)}." if evidence.tactics else ""
    lines = [f"{evidence.name} ({evidence.id}).{tactics}"]
    lines += [f"{f.role}: {f.name} ({f.id}). {f.text}" for role in roles for f in evidence.of(role)]
    kept: list[str] = []
    for line in lines:
        room = max_chars - sum(len(each) + 1 for each in kept)
        if len(line) > room:
            kept.append(line[: max(room, 0)].rsplit(" ", 1)[0])
            break
        kept.append(line)
    return "\n".join(kept)
