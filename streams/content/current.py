"""What is valid after a sequence of events: the latest event of each id, without what is no longer active.

An id that ATT&CK revoked stands for its successor, so a rule that still names T1562.001 is about T1685.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from schemas.events import Entity, Event, Relationship, Report, Technique, Template
from schemas.successors import chain
from schemas.topics import topic_of

_E = TypeVar("_E", bound=Event)

_LOWER_WORDS = frozenset(("and", "of", "the", "to"))


class Current(msgspec.Struct, frozen=True):
    """The active events by id, each in order of the ids.

    Attributes:
        successors: Id of a revoked technique or entity -> id of its replacement.
        used_techniques: Id of an actor, a tool or a campaign -> ids of the techniques that it uses.
        releases: `feed@release` of every feed, sorted.
        newest_ms: Latest modification that a feed states, ms since 1970 UTC; 0 if none states one.
    """

    techniques: dict[str, Technique]
    templates: dict[str, Template]
    entities: dict[str, Entity]
    relationships: dict[str, Relationship]
    reports: dict[str, Report]
    successors: dict[str, str]
    used_techniques: dict[str, tuple[str, ...]]
    releases: tuple[str, ...]
    newest_ms: int

    def valid_id(self, id_: str) -> str:
        """The id itself, or that of its last successor."""
        return chain(id_, self.successors.get)[-1]

    def valid_techniques(self, ids: Iterable[str]) -> tuple[str, ...]:
        """The known techniques among some ids, after their revocations, each once."""
        found = dict.fromkeys(map(self.valid_id, ids))
        return tuple(id_ for id_ in found if id_ in self.techniques)


def current(events: Iterable[Event]) -> Current:
    """What is valid after some events.

    Args:
        events: In order; a later event with the same id replaces the earlier.
    """
    latest: dict[tuple[str, str], Event] = {}
    successors: dict[str, str] = {}
    for event in events:
        latest[topic_of(event).name, event.id] = event
    for event in latest.values():
        if event.revoked_by:
            successors[event.id] = event.revoked_by
        elif isinstance(event, Relationship) and event.relation == "revoked-by":
            successors.setdefault(event.source.id, event.target.id)
    ordered = [latest[key] for key in sorted(latest)]
    active = [event for event in ordered if event.status == "active"]
    relationships = {id_: event for id_, event in _of(active, Relationship).items() if _is_valid(event)}
    return Current(
        techniques=_of(active, Technique),
        templates=_of(active, Template),
        entities=_of(active, Entity),
        relationships=relationships,
        reports=_of(active, Report),
        successors=successors,
        used_techniques=_used_techniques(relationships.values()),
        releases=tuple(sorted({f"{event.feed}@{event.release}" for event in active})),
        newest_ms=max((event.modified_ms for event in active), default=0),
    )


def _of(events: Iterable[Event], kind: type[_E]) -> dict[str, _E]:
    return {event.id: event for event in events if isinstance(event, kind)}


def _used_techniques(relationships: Iterable[Relationship]) -> dict[str, tuple[str, ...]]:
    used: dict[str, dict[str, None]] = {}
    for event in relationships:
        if event.relation == "uses" and event.target.kind == "technique":
            used.setdefault(event.source.id, {})[event.target.id] = None
    return {id_: tuple(sorted(techniques)) for id_, techniques in used.items()}


def _is_valid(event: Relationship) -> bool:
    return event.relation != "revoked-by" and event.source.status == event.target.status == "active"


def public_id(event: Event) -> str:
    """What people call it: `G0016` of a group, the rule's own id without its feed; else the id itself."""
    if isinstance(event, Entity) and event.external_id:
        return event.external_id
    if isinstance(event, Template):
        return event.id.removeprefix(f"{event.feed}:")
    return event.id


def tactic_name(short_name: str) -> str:
    """The name of a tactic from its short name.

    >>> tactic_name("command-and-control"), tactic_name("initial-access")
    ('Command and Control', 'Initial Access')
    """
    return " ".join(word if word in _LOWER_WORDS else word.capitalize() for word in short_name.split("-"))


def tactic_short_name(name: str) -> str:
    """The short name of a tactic from its name.

    >>> tactic_short_name("Command and Control")
    'command-and-control'
    """
    return "-".join(re.findall(r"[a-z0-9]+", name.lower()))


def all_events(content: Current) -> Iterator[Technique | Template | Entity]:
    """The techniques, templates and entities, in this order."""
    yield from content.techniques.values()
    yield from content.templates.values()
    yield from content.entities.values()


def iso_time(time_ms: int) -> str:
    """A time as ISO 8601 to the second; empty for 0.

    >>> iso_time(1_745_000_000_000), iso_time(0)
    ('2025-04-18T18:13:20Z', '')
    """
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if time_ms else ""
