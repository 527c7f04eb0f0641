"""The threat graph as one document: what stands after the last event, as `gnn-threat` learns it.

    events ──project──> nodes and links ──the latest of each key, without what was taken back──> Ontology

A node or edge here is an example of the journal in other words: same key, same text, same labels.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from schemas.events import Event
from schemas.journal import Example, Source
from streams.core.projections.examples import project

_MODEL = "gnn-threat"
_NOWHERE = Source("", 0, 0)


class OntologyNode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A technique (with its tactics) or another entity; `kind` as in `schemas.events.Entity`, or `technique`."""

    id: str
    kind: str
    name: str = ""
    text: str = ""
    tactics: tuple[str, ...] = ()


class OntologyEdge(msgspec.Struct, frozen=True, kw_only=True):
    """A typed edge between two nodes' ids."""

    id: str
    source: str
    source_kind: str
    relation: str
    target: str
    target_kind: str


class Ontology(msgspec.Struct, frozen=True):
    """Nodes sorted by id, edges too."""

    nodes: tuple[OntologyNode, ...] = ()
    edges: tuple[OntologyEdge, ...] = ()


def ontology(events: Iterable[Event]) -> Ontology:
    """The graph after events; the later of two that say something of the same thing counts."""
    standing: dict[str, Example] = {}
    for event in events:
        example = project(_MODEL, event, _NOWHERE)
        if example is None:
            continue
        if example.retracted:
            standing.pop(example.key, None)
        else:
            standing[example.key] = example
    nodes = (_node(example) for example in standing.values() if example.node)
    edges = (_edge(example) for example in standing.values() if example.link)
    return Ontology(tuple(sorted(nodes, key=lambda n: n.id)), tuple(sorted(edges, key=lambda e: e.id)))


def _node(example: Example) -> OntologyNode:
    assert example.node
    node = example.node
    return OntologyNode(id=node.id, kind=node.kind, name=node.name, text=node.text, tactics=example.labels)


def _edge(example: Example) -> OntologyEdge:
    assert example.link
    return OntologyEdge(id=example.key.partition(":")[2], **msgspec.structs.asdict(example.link))
