"""The threat graph as one document: the nodes and edges that `gnn-threat` has learned after the last event.

    events ──project──> nodes and links ──latest of each key, without retracted ones──> Ontology

Each node or edge corresponds to an example of the journal, with the same key, text and labels.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from schemas.events import Event
from schemas.journal import Example, Link, Node, Source
from streams.core.projections.base import project

_MODEL = "gnn-threat"
_NO_SOURCE = Source("", 0, 0)


class OntologyNode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A technique with its tactics, or an entity; `kind` is as in `schemas.events.Entity`, or `technique`."""

    id: str
    kind: str
    name: str = ""
    text: str = ""
    tactics: tuple[str, ...] = ()


class OntologyEdge(msgspec.Struct, frozen=True, kw_only=True):
    """A typed edge between the ids of two nodes."""

    id: str
    source: str
    source_kind: str
    relation: str
    target: str
    target_kind: str


class Ontology(msgspec.Struct, frozen=True):
    """The threat graph: nodes and edges, each sorted by id."""

    nodes: tuple[OntologyNode, ...] = ()
    edges: tuple[OntologyEdge, ...] = ()


def build_ontology(events: Iterable[Event]) -> Ontology:
    """The threat graph after a sequence of events. Without events it is empty.

    Args:
        events: In order; a later event with the same key replaces the earlier.
    """
    latest: dict[str, Example] = {}
    for event in events:
        example = project(_MODEL, event, _NO_SOURCE)
        if example is None:
            continue
        if example.retracted:
            latest.pop(example.key, None)
        else:
            latest[example.key] = example
    nodes = [_node(example, example.node) for example in latest.values() if example.node]
    edges = [_edge(example, example.link) for example in latest.values() if example.link]
    return Ontology(tuple(sorted(nodes, key=lambda node: node.id)), tuple(sorted(edges, key=lambda edge: edge.id)))


def _node(example: Example, node: Node) -> OntologyNode:
    return OntologyNode(id=node.id, kind=node.kind, name=node.name, text=node.text, tactics=example.labels)


def _edge(example: Example, link: Link) -> OntologyEdge:
    return OntologyEdge(
        id=example.key.partition(":")[2],
        source=link.source,
        source_kind=link.source_kind,
        relation=link.relation,
        target=link.target,
        target_kind=link.target_kind,
    )
