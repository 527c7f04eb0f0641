"""From the objects of an ATT&CK bundle to events.

A relationship carries both of its nodes, so a change of a technique's name, tactics or status changes its
relationships too, although ATT&CK does not change their own `modified`. What names a technique that was replaced by
another goes to that one. From release 18 on a detection strategy has
no text of its own: it and its `detects` relationships get the text of its analytics.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypedDict

from schemas.encoding import encode_event
from schemas.errors import BadRecord
from schemas.events import Entity, Event, NodeRef, Relationship, Status, Technique
from schemas.limits import check_node
from schemas.text import meaningful, text_or_nothing
from streams.fetchers.base import limits
from streams.fetchers.base.feed import Outcome
from streams.fetchers.formats import stix
from streams.fetchers.formats.stix import Domain, StixObject
from streams.fetchers.formats.stix_selection import BundleObject, Selection, fault

_STRUCTURE = (stix.REVOKED_BY, "subtechnique-of")
"""Relationships that say what a technique is in ATT&CK; they keep their ends."""
_CITED_KINDS = frozenset(("mitigation", "data-component", "detection-strategy"))
"""Kinds whose ids are in their relationships, because answers about a technique cite them."""
_MAX_SUCCESSORS = 10


@dataclass(frozen=True)
class _Context:
    """What the event of an object needs from the rest of the bundle.

    Attributes:
        feed, domain, release: Of every event.
        nodes: STIX id -> node, of every object that a relationship may join.
        successors: STIX id of a revoked technique -> node of what replaced it.
        edges: Relationships that are active, and both of whose ends are: graph ids of the ends and the type.
        replaced_by: STIX id of a revoked object -> graph id of its replacement.
        analytics: STIX id of a detection strategy -> the text of its analytics.
    """

    feed: str
    domain: Domain
    release: str
    nodes: Mapping[str, NodeRef]
    successors: Mapping[str, NodeRef]
    edges: Collection[tuple[str, str, str]]
    replaced_by: Mapping[str, str]
    analytics: Mapping[str, str]


def outcomes(selection: Selection, feed: str, domain: Domain, release: str) -> Iterator[Outcome]:
    """The event of each selected object, or the object as a rejected item.

    Args:
        selection: The objects.
        feed, domain, release: Of every event.
    """
    nodes = dict(_nodes(selection, domain))
    found = [each.object for each in selection.objects]
    replaced_by = dict(_replacements(found, nodes))
    context = _Context(
        feed=feed, domain=domain, release=release, nodes=nodes,
        successors=dict(_successors(nodes, replaced_by)),
        edges=set(_active_edges(found, nodes)), replaced_by=replaced_by, analytics=dict(_analytics(found)),
    )  # fmt: skip
    for each in selection.objects:
        try:
            if (event := _event(each, context)) is not None:
                yield encode_event(event)
        except Exception as error:  # noqa: BLE001 - one object's fault is its own dead letter
            yield each.rejected(feed, fault(error))


def _nodes(selection: Selection, domain: Domain) -> Iterator[tuple[str, NodeRef]]:
    """STIX id -> node, of every object that a relationship may join."""
    by_key: dict[str, NodeRef] = {}
    for each in selection.objects:
        if (node := _node_of(each, domain)) is not None:
            by_key[node.id] = node
            yield each.object.id, node
    for stix_id, key in selection.same_key.items():
        if key in by_key:
            yield stix_id, by_key[key]


def _node_of(each: BundleObject, domain: Domain) -> NodeRef | None:
    """The node of an object; None: it is none, or has no usable id, or a part beyond its limit."""
    found = each.object
    kind = "technique" if found.type == stix.TECHNIQUE else stix.ENTITY_KINDS.get(found.type)
    if kind is None:
        return None
    tactics = stix.tactics(found, domain) if kind == "technique" else ()
    try:
        node = NodeRef(
            id=stix.graph_id(found), kind=kind, name=found.name, tactics=tactics, status=found.status,
            external_id=stix.external_id(found) if kind in _CITED_KINDS else "",
        )  # fmt: skip
        check_node(node)
    except BadRecord:  # it is rejected when its event is made
        return None
    return node


def _replacements(objects: Iterable[StixObject], nodes: Mapping[str, NodeRef]) -> Iterator[tuple[str, str]]:
    """STIX id of a revoked object -> graph id of its replacement; the relationship modified last comes last."""
    revocations = [f for f in objects if f.relationship_type == stix.REVOKED_BY and f.target_ref in nodes]
    for found in sorted(revocations, key=lambda f: (f.modified, f.id)):
        yield found.source_ref, nodes[found.target_ref].id


def _successors(nodes: Mapping[str, NodeRef], replaced_by: Mapping[str, str]) -> Iterator[tuple[str, NodeRef]]:
    """STIX id of a revoked technique -> node of the active technique that replaced it, perhaps in several steps."""
    following = {nodes[ref].id: successor for ref, successor in replaced_by.items() if ref in nodes}
    by_key = {node.id: node for node in nodes.values()}
    for ref in replaced_by:
        node, steps = nodes.get(ref), 0
        while node is not None and node.id in following and steps < _MAX_SUCCESSORS:
            node, steps = by_key.get(following[node.id]), steps + 1
        if node is not None and node.kind == "technique" == nodes[ref].kind and node.status == "active":
            yield ref, node


def _active_edges(objects: Iterable[StixObject], nodes: Mapping[str, NodeRef]) -> Iterator[tuple[str, str, str]]:
    for found in objects:
        ends = [nodes.get(found.source_ref), nodes.get(found.target_ref)]
        if found.relationship_type and found.status == "active" and all(e and e.status == "active" for e in ends):
            yield nodes[found.source_ref].id, found.relationship_type, nodes[found.target_ref].id


def _analytics(objects: Iterable[StixObject]) -> Iterator[tuple[str, str]]:
    """STIX id of a detection strategy -> the text of its analytics, as many as there is room for."""
    found = [f for f in objects if f.type in (stix.ANALYTIC, stix.STRATEGY)]
    texts = {f.id: text for f in found if f.type == stix.ANALYTIC and (text := _analytic_text(f))}
    for each in found:
        refs = dict.fromkeys(each.x_mitre_analytic_refs[: limits.MAX_ANALYTICS])
        yield each.id, "\n\n".join(_that_fit([texts[ref] for ref in refs if ref in texts]))


def _analytic_text(analytic: StixObject) -> str:
    """What an active analytic says, with its platforms in front."""
    text = text_or_nothing(analytic.description) if analytic.status == "active" else ""
    platforms = ", ".join(meaningful(analytic.x_mitre_platforms))
    return f"{platforms}: {text}".removeprefix(": ") if text else ""


def _that_fit(texts: Iterable[str]) -> Iterator[str]:
    room = limits.MAX_ANALYTICS_CHARS
    for text in texts:
        room -= len(text)
        if room < 0:
            return
        yield text


def _event(each: BundleObject, context: _Context) -> Event | None:
    """The event of an object; None: it is about the bundle itself."""
    found = each.object
    if found.type == stix.RELATIONSHIP:
        return _relationship(each, context)
    if found.type == stix.TECHNIQUE:
        return _technique(each, context)
    if found.type in stix.ENTITY_KINDS:
        return _entity(each, context)
    if found.type == stix.COLLECTION:
        stix.release(found)
    if found.type in stix.NOT_EVENTS:
        return None
    raise BadRecord("unknown-type", f"{found.id} is of type {found.type:.50}")


class _Common(TypedDict):
    """The fields that every event has."""

    id: str
    feed: str
    release: str
    created_ms: int
    modified_ms: int
    status: Status
    revoked_by: str


def _common(each: BundleObject, context: _Context) -> _Common:
    found = each.object
    return {
        "id": stix.graph_id(found),
        "feed": context.feed,
        "release": context.release,
        "created_ms": stix.time_ms(found.created),
        "modified_ms": each.modified_ms if each.modified_ms >= 0 else stix.time_ms(found.modified),
        "status": found.status,
        "revoked_by": context.replaced_by.get(found.id, "") if found.revoked else "",
    }


def _technique(each: BundleObject, context: _Context) -> Technique:
    found = each.object
    return Technique(
        **_common(each, context),
        stix_id=found.id,
        name=stix.named(found),
        text=text_or_nothing(found.description),
        tactics=stix.tactics(found, context.domain),
        platforms=meaningful(found.x_mitre_platforms),
        domain=context.domain,
        detection=text_or_nothing(found.x_mitre_detection),
    )


def _entity(each: BundleObject, context: _Context) -> Entity:
    found = each.object
    return Entity(
        **_common(each, context),
        kind=stix.ENTITY_KINDS[found.type],
        name=stix.named(found),
        text=_text(found, found.id, context),
        external_id=stix.external_id(found),
        aliases=_aliases(found),
    )


def _aliases(found: StixObject) -> tuple[str, ...]:
    """Names other than its own; for a tactic the short name that techniques use."""
    names = (*found.aliases, *found.x_mitre_aliases, found.x_mitre_shortname)
    return tuple(dict.fromkeys(name for name in meaningful(names) if name != found.name))


def _relationship(each: BundleObject, context: _Context) -> Relationship:
    found, common = each.object, _common(each, context)
    if not found.relationship_type:
        raise BadRecord("no-type", f"{found.id} has no relationship_type")
    return Relationship(
        **common,
        relation=found.relationship_type,
        source=_end(found, "source_ref", context),
        target=_end(found, "target_ref", context),
        text=_text(found, found.source_ref, context),
        domain=context.domain,
    )


def _end(found: StixObject, field: str, context: _Context) -> NodeRef:
    """One end of a relationship: in place of a revoked technique what replaced it.

    A relationship of the structure of ATT&CK keeps its ends, and so does one that the successor has already: it
    stays with what was revoked, and nothing learns from it.
    """
    ref = getattr(found, field)
    node, successor = _node(ref, field, context), context.successors.get(ref)
    if successor is None or found.relationship_type in _STRUCTURE:
        return node
    ends = {each: _node(getattr(found, each), each, context).id for each in ("source_ref", "target_ref")}
    ends[field] = successor.id
    return node if (ends["source_ref"], found.relationship_type, ends["target_ref"]) in context.edges else successor


def _text(found: StixObject, strategy: str, context: _Context) -> str:
    """The object's own text, or that of the analytics of a detection strategy."""
    return text_or_nothing(found.description) or context.analytics.get(strategy, "")


def _node(ref: str, field: str, context: _Context) -> NodeRef:
    node = context.nodes.get(ref)
    if node is None:
        raise BadRecord("missing-end", f"{field} {ref!r:.200} is not among the usable objects of the bundle")
    return node
