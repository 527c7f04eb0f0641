"""The graph in Neo4j, and the graph that the events describe, in the same form: sorted rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from neo4j import Driver

from schemas.events import Event
from streams.core.graph_rows import batch_rows

Node = tuple[str, tuple[str, ...], int, str]
"""Id, labels other than Entity, time of the revision, status; a bare node has none of the last three."""
Edge = tuple[str, str, str, str, int, str]
"""Id, type, the two ends, time of the revision, status."""


def stored_graph(driver: Driver) -> tuple[list[Node], list[Edge]]:
    """All nodes and edges, with duplicates if there are any."""
    nodes = driver.execute_query(
        "MATCH (n:Entity) RETURN n.id, [l IN labels(n) WHERE l <> 'Entity'], n.modified_ms, n.status"
    ).records
    edges = driver.execute_query(
        "MATCH (a:Entity)-[r]->(b:Entity) RETURN r.id, type(r), a.id, b.id, r.modified_ms, r.status"
    ).records
    return sorted(_node(*row.values()) for row in nodes), sorted(tuple(row.values()) for row in edges)  # type: ignore[type-var]


def _node(id_: str, labels: list[str], modified_ms: int | None, status: str | None) -> Node:
    return id_, tuple(sorted(labels)), modified_ms or 0, status or ""


def expected_graph(events: Iterable[tuple[Event, int]]) -> tuple[list[Node], list[Edge]]:
    """The graph of (event, offset) pairs: each node and edge once, in its newest revision."""
    rows = batch_rows(events)
    nodes: dict[str, Any] = {end: (end, (), 0, "") for e in rows.edges for end in (e.source, e.target)}
    for n in rows.nodes:
        nodes[n.id] = (n.id, (n.label,), n.revision[0], n.properties["status"])
    edges = [(e.id, e.type, e.source, e.target, e.revision[0], e.properties["status"]) for e in rows.edges]
    return sorted(nodes.values()), sorted(edges)


def positions(driver: Driver) -> dict[tuple[str, int], int]:
    """The positions in the topics of events that are stored in the graph."""
    found = driver.execute_query(
        "MATCH (p:StreamPosition) WHERE p.topic STARTS WITH 'threat.' RETURN p.topic, p.partition, p.next"
    ).records
    return {(topic, partition): following for topic, partition, following in (row.values() for row in found)}
