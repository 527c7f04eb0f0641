"""The rows that events write to the graph: `event_rows` for one event, `batch_rows` for a batch.

    technique      (:Entity:Technique {id: "T1059.001"})
    template       (:Entity:Template {id}) -[:REFERENCES]-> technique, vulnerability
    entity         (:Entity:Group|Malware|... {id: STIX id}) -[:REFERENCES]-> technique, vulnerability
    report         (:Entity:Report {id}) -[:MENTIONS]-> technique
    relationship   (source) -[:USES|MITIGATES|... {id}]-> (target)

A row has a revision: the feed's own time of modification, then the offset of the event. The sink writes a row only
if the graph has no newer revision, so a redelivery or an older release changes nothing. Nothing is deleted: what a
feed revokes stays, and its `status` says so, as that of an edge to something that a template, an entity or a report
does not name any more. Only an edge that goes to another technique now, because its own was replaced, is moved. If
an edge comes before one of its nodes, the sink creates a node that has only an id; the event of the node completes
it later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from schemas.events import Entity, Event, LogSource, Relationship, Report, Status, Technique, Template

NODE_LABEL = "Entity"
"""A label of every node. The `id` of a node is unique within it."""

TECHNIQUE = "Technique"
"""The label of a technique."""

NAMING = ("REFERENCES", "MENTIONS")
"""Types of the edges to what a node names. Their revision is that of the node: an older one was dropped since."""

WITHDRAWN: Status = "withdrawn"
"""Status of an edge that was dropped."""

Revision = tuple[int, int]
"""Time of modification in ms since 1970 UTC (0: unknown), then the offset of the event."""

Properties = dict[str, str | int | float | list[str]]

_TEMPLATE = (
    "severity", "tags", "path", "rule_type", "rule_status", "detection", "false_positives", "author", "date",
    "platforms", "tactics", "references",
)  # fmt: skip
_ENTITY = (
    "external_id", "aliases", "category", "tags", "platforms", "references", "path", "author", "date", "severity",
    "score",
)  # fmt: skip
"""Fields of an event that are properties of its node, beside those of all nodes."""

_SEPARATORS = re.compile(r"[^a-z0-9]+")


class NodeRow(msgspec.Struct, frozen=True):
    """One node: its `label` in addition to `NODE_LABEL`, its id, its revision and its properties."""

    label: str
    id: str
    revision: Revision
    properties: Properties


class EdgeRow(msgspec.Struct, frozen=True):
    """One edge: its `type` in upper case, its id, the ids of its nodes, its revision and its properties."""

    type: str
    id: str
    source: str
    target: str
    revision: Revision
    properties: Properties


class GraphRows(msgspec.Struct, frozen=True):
    """The rows of one event or of a batch."""

    nodes: tuple[NodeRow, ...] = ()
    edges: tuple[EdgeRow, ...] = ()


def node_label(kind: str) -> str:
    """The node label of a kind of entity: only letters and digits; `Unknown` if none are left.

    >>> node_label("data-component")
    'DataComponent'
    """
    return "".join(word.capitalize() for word in _SEPARATORS.split(kind.lower()) if word) or "Unknown"


def edge_type(relation: str) -> str:
    """The edge type of a STIX relationship type: only letters, digits and `_`; `RELATED_TO` if none are left.

    >>> edge_type("subtechnique-of")
    'SUBTECHNIQUE_OF'
    """
    return "_".join(word.upper() for word in _SEPARATORS.split(relation.lower()) if word) or "RELATED_TO"


def event_rows(event: Event, offset: int) -> GraphRows:
    """The rows of one event.

    Args:
        event: Any event.
        offset: Its offset in its topic partition.
    """
    revision = (event.modified_ms, offset)
    match event:
        case Relationship():
            return GraphRows(edges=(_relationship(event, revision),))
        case Template():
            properties = _properties(event, _TEMPLATE) | _log_source(event.log_source)
            return GraphRows((NodeRow("Template", event.id, revision, properties),), _references(event, revision))
        case Report():
            node = NodeRow("Report", event.id, revision, _properties(event, ("document", "path", "date")))
            return GraphRows((node,), _mentions(event, revision))
        case Technique():
            properties = _properties(event, ("stix_id", "tactics", "platforms", "domain"))
            return GraphRows((NodeRow(TECHNIQUE, event.id, revision, properties),))
        case Entity():
            properties = _properties(event, _ENTITY)
            node = NodeRow(node_label(event.kind), event.id, revision, properties)
            return GraphRows((node,), _references(event, revision))


def batch_rows(events: Iterable[tuple[Event, int]]) -> GraphRows:
    """The rows of a batch: the newest revision of each node and edge, in the order of their first event.

    Args:
        events: (event, offset in its topic partition). An empty batch has no rows.
    """
    nodes: dict[str, NodeRow] = {}
    edges: dict[str, EdgeRow] = {}
    for event, offset in events:
        rows = event_rows(event, offset)
        for node in rows.nodes:
            if node.id not in nodes or nodes[node.id].revision <= node.revision:
                nodes[node.id] = node
        for edge in rows.edges:
            if edge.id not in edges or edges[edge.id].revision <= edge.revision:
                edges[edge.id] = edge
    return GraphRows(tuple(nodes.values()), tuple(_as_named_now(edge, nodes) for edge in edges.values()))


def _as_named_now(edge: EdgeRow, nodes: Mapping[str, NodeRow]) -> EdgeRow:
    """An edge; withdrawn if a newer revision of its source does not name its target any more."""
    source = nodes.get(edge.source)
    if edge.type not in NAMING or source is None or source.revision <= edge.revision:
        return edge
    return msgspec.structs.replace(edge, properties=edge.properties | {"status": WITHDRAWN})


def _properties(event: Technique | Template | Entity | Report, extra: tuple[str, ...]) -> Properties:
    """The properties of all nodes, and some fields of the event."""
    properties: Properties = {
        "name": event.name,
        "text": event.text,
        "feed": event.feed,
        "release": event.release,
        "status": event.status,
        "revoked_by": event.revoked_by,
        "created_ms": event.created_ms,
    }
    for name in extra:
        value = getattr(event, name)
        properties[name] = list(value) if isinstance(value, tuple) else value
    return properties


def _relationship(event: Relationship, revision: Revision) -> EdgeRow:
    properties: Properties = {
        "text": event.text,
        "feed": event.feed,
        "release": event.release,
        "status": event.status,
        "created_ms": event.created_ms,
    }
    return EdgeRow(edge_type(event.relation), event.id, event.source.id, event.target.id, revision, properties)


def _log_source(source: LogSource) -> Properties:
    return {f"log_source_{field}": getattr(source, field) for field in ("category", "product", "service")}


def _references(event: Template | Entity, revision: Revision) -> tuple[EdgeRow, ...]:
    """An edge to each technique and vulnerability that a template or an entity names."""
    properties: Properties = {"feed": event.feed, "status": event.status}
    targets = dict.fromkeys((*event.techniques, *event.cves))
    return tuple(
        EdgeRow("REFERENCES", f"{event.id}>{target}", event.id, target, revision, properties)
        for target in targets
        if target != event.id
    )


def _mentions(report: Report, revision: Revision) -> tuple[EdgeRow, ...]:
    """An edge to each technique that a report mentions; only techniques have ATT&CK's id as their key."""
    properties: Properties = {"feed": report.feed, "status": report.status}
    targets = dict.fromkeys(span.id for span in report.spans if span.kind == "technique" and span.id)
    return tuple(
        EdgeRow("MENTIONS", f"{report.id}>{target}", report.id, target, revision, properties) for target in targets
    )
