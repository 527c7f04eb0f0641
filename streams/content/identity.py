"""What of an event is hashed: its id, name and description, run together, and its kind."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.events import Entity, Technique, Template
from schemas.ids import is_technique
from streams.content.current import public_id

TEST_RULE_TYPES = ("atomic", "caldera", "nmap")
"""Rule types that run something, so they are tools; the others look for something."""

TOOL_KINDS = frozenset(
    ("malware", "tool", "package", "lolbin", "vulnerable-driver", "hijackable-library", "offensive-command")
)
"""Kinds of entities that are tools in the DSL."""

MAX_TECHNIQUE_CHARS = 2_000
"""Characters of a technique's description that are hashed, as in RFC-9011-B's pipeline."""


def hash_kind(event: Technique | Template | Entity) -> str:
    """`technique`, `detection_rule`, `tool`, `exploit`, or the kind of any other entity."""
    match event:
        case Technique():
            return "technique"
        case Template():
            return "tool" if event.rule_type in TEST_RULE_TYPES else "detection_rule"
        case Entity(kind="exploit"):
            return "exploit"
        case Entity(kind=kind):
            return "tool" if kind in TOOL_KINDS else kind


def hashed_content(event: Technique | Template | Entity) -> str:
    """Id, name and description, run together."""
    text = event.text[:MAX_TECHNIQUE_CHARS] if isinstance(event, Technique) else event.text
    return f"{public_id(event)}{event.name}{text}"


def context(event: Technique | Template | Entity) -> str:
    """Where an event is from: `feed@release`."""
    return f"{event.feed}@{event.release}"


def technique_id_in(names: Iterable[str]) -> str:
    """The first id of a technique of ATT&CK or ATLAS among some names; empty if there is none.

    >>> technique_id_in(["PowerShell", "T1059.001"])
    'T1059.001'
    """
    return next((name for name in names if is_technique(name)), "")
