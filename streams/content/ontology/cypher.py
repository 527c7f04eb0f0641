"""`threat_ontology.cypher`: statements for Neo4j, for the queries of RFC-9021. Loading them twice changes nothing.

    (:ThreatActor {id: "G0016"}) -[:USES]-> (:Technique {id: "T1059"}) -[:DETECTED_BY]-> (:DetectionRule {title})

A node has a second label, the one of our own graph where that is another: ThreatActor and Group, DetectionRule and
Template. Techniques and vulnerabilities have the same id in both graphs and are the same node, `(:Entity {id})`.
The others have the id that people know, so they are nodes of their own; `key` is their id in our graph, and where
the file is loaded into it, `SAME_AS` leads there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from schemas.events import Entity, Relationship, Technique, Template
from schemas.ids import is_cve
from schemas.text import meaningful
from streams.content.attack_paths import followed_by
from streams.content.current import Current, all_events, public_id, tactic_name
from streams.content.identity import TEST_RULE_TYPES, TOOL_KINDS
from streams.content.ontology.cypher_rows import Row, Value, batches
from streams.content.ontology.reports import ExtractedReport, mentions
from streams.content.ontology.terms import TACTIC_KEY, platform_id, tactic_id
from streams.content.ontology.vocabulary import category_of, relation_to_technique
from streams.core.graph_rows import edge_type, node_label

SHARED = "Entity"
"""Label of the nodes that are the same in our own graph."""
KEY, SOURCE, TARGET = "row_key", "row_source", "row_target"
"""Names of columns that are no properties."""
INDEX_S = 600
"""Longest wait for the indexes, where the file is loaded into a large graph, seconds."""

_LABEL_OF_KIND = {
    "group": "ThreatActor",
    "mitigation": "Mitigation",
    "countermeasure": "Mitigation",
    "data-source": "DetectionMethod",
    "data-component": "DetectionMethod",
    "detection-strategy": "DetectionMethod",
    "analytic": "DetectionMethod",
    "technique": SHARED,
    "vulnerability": SHARED,
} | dict.fromkeys(TOOL_KINDS, "OffensiveTool")
"""Kind of an entity -> first label, where it is not that of our own graph."""

_BOTH_WAYS = {"DETECTS": "DETECTED_BY", "MITIGATES": "MITIGATED_BY"}
"""Edge -> the edge the other way, which RFC-9021 asks for."""


class Node(msgspec.Struct, frozen=True):
    """A node: its first label, its key there, its other labels, its properties."""

    label: str
    key: str
    others: tuple[str, ...]
    properties: Mapping[str, Value]


class Edge(msgspec.Struct, frozen=True):
    """An edge between (label, key) and (label, key)."""

    source: tuple[str, str]
    type: str
    target: tuple[str, str]
    properties: Mapping[str, Value] = {}


def cypher_of(
    content: Current, definitions: Mapping[str, str], reports: Sequence[ExtractedReport] = ()
) -> Iterator[str]:
    """The statements, each with its semicolon and a line end; strings contain no line end.

    Args:
        content: What is valid.
        definitions: Id of a technique, template or entity -> its description, without markup.
        reports: What reports in free text say.
    """
    nodes: dict[tuple[str, str], Node] = {}
    for node in (*_nodes(content, definitions), *_named(content), *_of_reports(reports)):
        nodes.setdefault((node.label, node.key), node)
    every = (*_edges(content), *(edge for report in reports for edge in _of_report(report, content)))
    edges = {(edge.source, edge.type, edge.target): edge for edge in every}
    labels = sorted({label for label, _ in nodes})
    yield "// Threat ontology. Load it with: cypher-shell -f threat_ontology.cypher\n"
    for label in labels:
        yield f"CREATE CONSTRAINT IF NOT EXISTS FOR (n:{label}) REQUIRE n.{_key_of(label)} IS UNIQUE;\n"
        if label != SHARED:
            yield f"CREATE INDEX IF NOT EXISTS FOR (n:{label}) ON (n.id);\n"
    yield f"CALL db.awaitIndexes({INDEX_S});\n"
    yield from _node_statements(nodes.values())
    yield from _edge_statements(edge for edge in edges.values() if edge.source in nodes and edge.target in nodes)
    for label in labels:
        if label != SHARED:
            yield f"MATCH (n:{label}) MATCH (e:{SHARED} {{id: n.key}}) MERGE (n)-[:SAME_AS]->(e);\n"


# ---- nodes


def _nodes(content: Current, definitions: Mapping[str, str]) -> Iterator[Node]:
    for technique in content.techniques.values():
        yield _technique(technique, definitions[technique.id])
    for template in content.templates.values():
        yield _template(template, definitions[template.id])
    for entity in reversed(content.entities.values()):  # ATT&CK's tactics before those of ATLAS
        yield _entity(entity, definitions.get(entity.id, entity.text))


def _technique(event: Technique, description: str) -> Node:
    properties: dict[str, Value] = {
        "name": event.name,
        "description": description,
        "tactics": event.tactics,
        "platforms": event.platforms,
        "domain": event.domain,
        "stix_id": event.stix_id,
    }
    return Node(SHARED, event.id, ("Technique",), properties)


def _template(event: Template, description: str) -> Node:
    properties: dict[str, Value] = {
        "id": public_id(event),
        "name": event.name,
        "title": event.name,
        "description": description,
        "rule_type": event.rule_type or "nuclei",
        "feed": event.feed,
        "path": event.path,
    }
    if event.rule_type not in TEST_RULE_TYPES:
        level = {"info": "informational"}.get(event.severity, event.severity)
        properties |= {"status": event.rule_status, "level": level}
    return Node(_template_label(event), event.id, ("Template",), properties)


def _entity(event: Entity, description: str) -> Node:
    if event.kind == "tactic":
        tactic = {"name": event.name, "id": public_id(event), "description": description}
        return Node("Tactic", tactic_id(event.name), (), tactic)
    label, own = _label(event.kind), node_label(event.kind)
    properties: dict[str, Value] = {"name": event.name, "description": description, "feed": event.feed}
    if label != SHARED:
        properties |= {"id": public_id(event), "aliases": event.aliases}
    if label == "OffensiveTool":
        properties |= {"package_name": event.name, "platforms": event.platforms, "category": event.category}
    if event.kind == "countermeasure":
        properties["d3fend_id"] = public_id(event)
    return Node(label, event.id, (own,) if own != label else (), properties)


def _named(content: Current) -> Iterator[Node]:
    """The tactics, platforms and CVEs that events name. Those with an event of their own come before."""
    for event in all_events(content):
        for tactic in () if isinstance(event, Entity) else event.tactics:
            yield Node("Tactic", tactic_id(tactic), (), {"name": tactic_name(tactic)})
        for platform in meaningful(event.platforms):
            yield Node("Platform", platform_id(platform), (), {"name": platform})
        for cve in () if isinstance(event, Technique) else event.cves:
            yield Node(SHARED, cve, ("Vulnerability",), {"name": cve})


def _template_label(event: Template) -> str:
    return "Test" if event.rule_type in TEST_RULE_TYPES else "DetectionRule"


def _label(kind: str) -> str:
    return _LABEL_OF_KIND.get(kind, node_label(kind))


def _key_of(label: str) -> str:
    return "id" if label == SHARED else "key"


# ---- edges


def _edges(content: Current) -> Iterator[Edge]:
    for technique in content.techniques.values():
        yield from _of_technique(technique)
    for template in content.templates.values():
        yield from _of_template(template, content)
    for entity in content.entities.values():
        yield from _of_entity(entity, content)
    for relationship in content.relationships.values():
        yield from _of_relationship(relationship, content)
    for one, after in followed_by(content).items():
        yield from (
            Edge((SHARED, one), "FOLLOWED_BY", (SHARED, other), {"actors": actors})
            for other, actors in after.items()
        )


def _of_technique(event: Technique) -> Iterator[Edge]:
    me = (SHARED, event.id)
    for tactic in event.tactics:
        yield Edge(me, "BELONGS_TO", ("Tactic", tactic_id(tactic)))
    for platform in meaningful(event.platforms):
        yield Edge(me, "TARGETS", ("Platform", platform_id(platform)))
    parent, _, number = event.id.rpartition(".")
    if parent and number.isdecimal():
        yield Edge(me, "SUBTECHNIQUE_OF", (SHARED, parent))


def _of_template(event: Template, content: Current) -> Iterator[Edge]:
    label = _template_label(event)
    yield from _to_others((label, event.id), "TESTS" if label == "Test" else "DETECTS", event, content)


def _of_entity(event: Entity, content: Current) -> Iterator[Edge]:
    relation = edge_type(relation_to_technique(category_of(event)))
    yield from _to_others((_label(event.kind), event.id), relation, event, content)


def _to_others(me: tuple[str, str], relation: str, event: Template | Entity, content: Current) -> Iterator[Edge]:
    for technique in content.valid_techniques(event.techniques):
        yield from _both_ways(me, relation, (SHARED, technique))
        yield Edge(me, "REFERENCES", (SHARED, technique))
    for cve in event.cves:
        yield Edge(me, "REFERENCES", (SHARED, cve))
    for platform in meaningful(event.platforms):
        yield Edge(me, "RUNS_ON", ("Platform", platform_id(platform)))


def _of_relationship(event: Relationship, content: Current) -> Iterator[Edge]:
    source = (_label(event.source.kind), content.valid_id(event.source.id))
    target = (_label(event.target.kind), content.valid_id(event.target.id))
    relation = edge_type(event.relation)
    yield from _both_ways(source, relation, target)
    if relation == "USES" and source[0] == "OffensiveTool" and event.target.kind == "technique":
        yield Edge(source, "IMPLEMENTS", target)


def _both_ways(source: tuple[str, str], relation: str, target: tuple[str, str]) -> Iterator[Edge]:
    yield Edge(source, relation, target)
    if relation in _BOTH_WAYS:
        yield Edge(target, _BOTH_WAYS[relation], source)


def _of_reports(reports: Sequence[ExtractedReport]) -> Iterator[Node]:
    for report in reports:
        yield Node("Report", report.id, (), {"id": report.id, "name": report.name})
        for cve in filter(is_cve, mentions(report)):
            yield Node(SHARED, cve, ("Vulnerability",), {"name": cve})


def _of_report(report: ExtractedReport, content: Current) -> Iterator[Edge]:
    for target, spans in mentions(report).items():
        entity = content.entities.get(target)
        label = "Tactic" if target.startswith(TACTIC_KEY) else _label(entity.kind) if entity else SHARED
        properties: dict[str, Value] = {
            "confidence": max(span.confidence for span in spans),
            "sentences": tuple(span.text for span in spans),
        }
        yield Edge(("Report", report.id), "MENTIONS", (label, target), properties)


# ---- statements


def _node_statements(nodes: Iterable[Node]) -> Iterator[str]:
    groups: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[Row]] = defaultdict(list)
    for node in nodes:
        names = tuple(node.properties)
        groups[node.label, node.others, names].append({KEY: node.key, **node.properties})
    for (label, others, names), rows in sorted(groups.items()):
        labels = f" SET n:{':'.join(others)}" if others else ""
        for some in batches(rows):
            merge = f"MERGE (n:{label} {{{_key_of(label)}: {some.value(KEY)}}})"
            yield f"{some.head()} {merge}{some.assignments('n', names)}{labels};\n"


def _edge_statements(edges: Iterable[Edge]) -> Iterator[str]:
    groups: dict[tuple[str, str, str, tuple[str, ...]], list[Row]] = defaultdict(list)
    for edge in edges:
        row = {SOURCE: edge.source[1], TARGET: edge.target[1], **edge.properties}
        groups[edge.source[0], edge.type, edge.target[0], tuple(edge.properties)].append(row)
    for (source, type_, target, names), rows in sorted(groups.items()):
        for some in batches(rows):
            yield (
                f"{some.head()} MATCH (a:{source} {{{_key_of(source)}: {some.value(SOURCE)}}}) "
                f"MATCH (b:{target} {{{_key_of(target)}: {some.value(TARGET)}}}) "
                f"MERGE (a)-[r:{type_}]->(b){some.assignments('r', names)};\n"
            )
