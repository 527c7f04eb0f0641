"""The graph that events describe: `rows(event, offset)` gives node and edge rows, `merge` the newest of each.

    technique      (:Entity:Technique {id: "T1059.001"})
    template       (:Entity:Template {id}) -[:REFERENCES]-> technique, vulnerability
    entity         (:Entity:Group|Malware|... {id: STIX id})
    relationship   (source) -[:USES|MITIGATES|... {id}]-> (target)

A row has a revision: the feed's own time of change, then the event's offset. The sink writes a row only where
nothing newer stands, so a second delivery or an older release changes nothing. Nothing is deleted: what a
feed revokes stays and says so in `status`. An end that has not been seen yet is a bare node until it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from schemas.events import Entity, Event, Relationship, Technique, Template

NODE_LABEL = "Entity"
"""Every node carries it; its `id` is unique."""

Kind = str
_WORD = re.compile(r"[^a-z0-9]+")


class Node(msgspec.Struct, frozen=True):
    """One node: `label` beside `Entity`, its key, its revision and its properties."""

    label: Kind
    id: str
    revision: tuple[int, int]
    properties: dict[str, Any]


class Edge(msgspec.Struct, frozen=True):
    """One edge between two keys: `type` in upper case."""

    type: Kind
    id: str
    source: str
    target: str
    revision: tuple[int, int]
    properties: dict[str, Any]


class Rows(msgspec.Struct, frozen=True):
    """What a batch of events says of the graph."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def label_of(kind: str) -> Kind:
    """A kind as a node label: only letters and digits are left of it.

    >>> label_of("data-component")
    'DataComponent'
    """
    return "".join(word.capitalize() for word in _WORD.split(kind.lower()) if word) or "Unknown"


def type_of(relation: str) -> Kind:
    """A STIX relationship type as an edge type.

    >>> type_of("subtechnique-of")
    'SUBTECHNIQUE_OF'
    """
    return "_".join(word.upper() for word in _WORD.split(relation.lower()) if word) or "RELATED_TO"


def rows(event: Event, offset: int) -> Rows:
    """The nodes and edges that one event says, `offset` being its offset in its topic partition."""
    revision = (event.modified_ms, offset)
    if isinstance(event, Relationship):
        return Rows((), (_relationship(event, revision),))
    if isinstance(event, Template):
        references = (*event.techniques, *event.cves)
        return Rows(
            (Node("Template", event.id, revision, _properties(event, ("severity", "tags", "path"))),),
            tuple(_reference(event, target, revision) for target in dict.fromkeys(references)),
        )
    if isinstance(event, Technique):
        extra = ("stix_id", "tactics", "platforms", "domain")
        return Rows((Node("Technique", event.id, revision, _properties(event, extra)),), ())
    return Rows(
        (Node(label_of(event.kind), event.id, revision, _properties(event, ("external_id", "aliases"))),), ()
    )


def merge(events: Iterable[tuple[Event, int]]) -> Rows:
    """The rows of a batch of (event, offset), only the newest revision of each key, in order of first sight."""
    nodes: dict[str, Node] = {}
    edges: dict[str, Edge] = {}
    for event, offset in events:
        found = rows(event, offset)
        for node in found.nodes:
            if node.id not in nodes or nodes[node.id].revision <= node.revision:
                nodes[node.id] = node
        for edge in found.edges:
            if edge.id not in edges or edges[edge.id].revision <= edge.revision:
                edges[edge.id] = edge
    return Rows(tuple(nodes.values()), tuple(edges.values()))


def _properties(event: Technique | Template | Entity, names: tuple[str, ...]) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "name": event.name,
        "text": event.text,
        "feed": event.feed,
        "release": event.release,
        "status": event.status,
        "revoked_by": event.revoked_by,
        "created_ms": event.created_ms,
    }
    for name in names:
        value = getattr(event, name)
        properties[name] = list(value) if isinstance(value, tuple) else value
    return properties


def _relationship(event: Relationship, revision: tuple[int, int]) -> Edge:
    properties = {
        "text": event.text,
        "feed": event.feed,
        "release": event.release,
        "status": event.status,
        "created_ms": event.created_ms,
    }
    return Edge(type_of(event.relation), event.id, event.source.id, event.target.id, revision, properties)


def _reference(template: Template, target: str, revision: tuple[int, int]) -> Edge:
    properties = {"feed": template.feed, "status": template.status}
    return Edge("REFERENCES", f"{template.id}>{target}", template.id, target, revision, properties)
