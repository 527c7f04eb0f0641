"""From the objects of any STIX 2.0 or 2.1 bundle to events.

    attack-pattern, tool, mitigation, ... of ATT&CK ──> no event: ATT&CK's own feed says what they are; a node that
                                                        relationships join
    other objects of a known kind                   ──> entity  `<feed>:<STIX id>`
    relationship between two of these               ──> relationship, a technique with the tactics that it has now
    the rest                                        ──> left out, counted by its type

No id of such a feed is that of another feed's entity, whatever the feed says: so none can change what others said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any

import msgspec

from schemas.encoding import encode_event
from schemas.errors import BadRecord
from schemas.events import Entity, NodeRef, Relationship
from schemas.limits import MAX_LINE_CHARS, MAX_NAME_CHARS, MAX_WORDS, check_node
from schemas.text import meaningful, means_something, text_or_nothing
from streams.fetchers.base.diff import MISSING_END
from streams.fetchers.base.feed import LeftOut, Outcome
from streams.fetchers.formats import fields, stix
from streams.fetchers.formats.fields import Fields, mappings, paragraphs, text, texts
from streams.fetchers.formats.stix import StixObject
from streams.fetchers.formats.stix_selection import BundleObject, Selection, fault

KINDS: Mapping[str, str] = stix.ENTITY_KINDS | {
    stix.TECHNIQUE: "attack-pattern",
    "threat-actor": "threat-actor",
    "indicator": "indicator",
    "infrastructure": "infrastructure",
    "incident": "incident",
    "report": "report",
}
"""STIX type -> kind of entity."""

OTHER_TYPES = frozenset(
    ("identity", "marking-definition", "location", "note", "opinion", "observed-data", "sighting", "grouping",
     "malware-analysis", "language-content", "extension-definition", "bundle")
)  # fmt: skip
"""Types of STIX that are left out, each counted by its name."""
OF_ATTACK, OBSERVABLE, CUSTOM = "of-attack", "observable", "custom-type"
_LABELS = ("labels", "indicator_types", "malware_types", "tool_types", "threat_actor_types", "infrastructure_types",
           "report_types")  # fmt: skip


def origin_of(feed: str) -> str:
    """What an origin begins with: the feed, then an event id, which begins with the feed, too."""
    return f"{feed}:{feed}"


def outcomes(selection: Selection, feed: str) -> Iterator[Outcome]:
    """The event of each selected object; or the object as a rejected or left-out item.

    Args:
        selection: The objects.
        feed: Name of the feed.
    """
    nodes = dict(_nodes(selection, feed))
    techniques = {stix_id: node.id for stix_id, node in nodes.items() if node.kind == "technique"}
    for each in selection.objects:
        try:
            yield _outcome(each, feed, nodes, techniques, selection.ids)
        except Exception as error:  # noqa: BLE001 - one object's fault is its own dead letter
            yield each.rejected(origin_of(feed), fault(error))


def _outcome(
    each: BundleObject, feed: str, nodes: Mapping[str, NodeRef], techniques: Mapping[str, str], ids: Set[str]
) -> Outcome:
    found = each.object
    origin = f"{origin_of(feed)}:{found.id}"
    if found.type == stix.RELATIONSHIP:
        return _relationship(each, feed, nodes, ids)
    if found.type not in KINDS:
        return LeftOut(origin, _reason(found.type))
    if _is_of_attack(found):
        return LeftOut(origin, OF_ATTACK)
    return encode_event(_entity(each, feed, techniques))


def _reason(kind: str) -> str:
    if kind in OTHER_TYPES:
        return kind
    return CUSTOM if kind.startswith("x-") else OBSERVABLE


def _is_of_attack(found: StixObject) -> bool:
    """Whether an object says that it is one of ATT&CK's."""
    return bool(stix.external_id(found))


def _nodes(selection: Selection, feed: str) -> Iterator[tuple[str, NodeRef]]:
    """STIX id -> node, of every object that a relationship may join."""
    for each in selection.objects:
        found = each.object
        if found.type not in KINDS:
            continue
        is_technique = found.type == stix.TECHNIQUE and _is_of_attack(found) and each.key != found.id
        own_id = f"{feed}:{found.id}" if not _is_of_attack(found) else each.key
        node = NodeRef(
            id=own_id,
            kind="technique" if is_technique else KINDS[found.type],
            name=_name(found, {})[:MAX_NAME_CHARS],
            status=found.status,
        )
        try:
            check_node(node)
        except BadRecord:  # it is rejected when its event is made
            continue
        yield found.id, node
    by_key = {each.key: each.object.id for each in selection.objects}
    known = {stix_id: key for stix_id, key in selection.same_key.items() if key in by_key}
    for stix_id, key in known.items():  # of two objects for one technique of ATT&CK, either end is the technique
        yield stix_id, NodeRef(id=key, kind="technique")


def _relationship(each: BundleObject, feed: str, nodes: Mapping[str, NodeRef], ids: Set[str]) -> Outcome:
    """The event of a relationship. One whose end is not there, or is left out, is left out, too."""
    found = each.object
    if not found.relationship_type:
        raise BadRecord("no-type", f"{found.id} has no relationship_type")
    source, target = nodes.get(found.source_ref), nodes.get(found.target_ref)
    if source is None or target is None:
        for ref in (found.source_ref, found.target_ref):
            if ref not in nodes and ref in ids and ref.partition("--")[0] in KINDS:
                raise BadRecord(MISSING_END, f"{ref!r:.200} is in the bundle, but can't be used")
        return LeftOut(f"{origin_of(feed)}:{found.id}", MISSING_END)
    return encode_event(
        Relationship(
            id=f"{feed}:{found.id}",
            feed=feed,
            created_ms=stix.time_ms(found.created),
            modified_ms=stix.time_ms(found.modified),
            status=found.status,
            relation=found.relationship_type,
            source=source,
            target=target,
            text=text_or_nothing(found.description),
        )
    )


def _entity(each: BundleObject, feed: str, techniques: Mapping[str, str]) -> Entity:
    found = each.object
    more: Fields = msgspec.json.decode(each.raw)
    refs = [techniques[ref] for ref in texts(more, "object_refs") if ref in techniques]
    phases = [phase for phase in mappings(more, "kill_chain_phases") if text(phase, "phase_name")]
    labels = [label for key in _LABELS for label in texts(more, key)]
    about = [*labels, found.name, found.description]
    references = mappings(more, "external_references")
    cves = fields.cves([*about, *(text(each, "external_id") for each in references)])
    return Entity(
        id=f"{feed}:{found.id}",
        feed=feed,
        created_ms=stix.time_ms(found.created),
        modified_ms=stix.time_ms(found.modified),
        status=found.status,
        kind=KINDS[found.type],
        name=_named(found, more),
        text=paragraphs(text_or_nothing(found.description), text(more, "pattern")),
        external_id=next(filter(None, (text(each, "external_id") for each in references)), "")[:200],
        aliases=_words(name for name in meaningful(found.aliases) if name != found.name),
        category=text(phases[0], "phase_name") if phases else "",
        tags=_words(labels),
        techniques=tuple(dict.fromkeys([*refs, *fields.techniques(about)]))[:MAX_WORDS],
        cves=cves[:MAX_WORDS],
        platforms=meaningful(found.x_mitre_platforms),
        references=tuple(url for each in references if (url := text(each, "url")) and len(url) <= MAX_LINE_CHARS)[
            :MAX_WORDS
        ],
        date=text(more, "valid_from") or text(more, "published") or text(more, "first_seen"),
    )


def _words(found: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found))[:MAX_WORDS]


def _name(found: StixObject, more: Fields) -> str:
    return found.name if means_something(found.name) else text(more, "pattern")


def _named(found: StixObject, more: Fields) -> str:
    """The name of an object; of an indicator without one its pattern."""
    if found.type == "indicator" and (name := _name(found, more)):
        return name[:MAX_NAME_CHARS]
    return stix.named(found)
