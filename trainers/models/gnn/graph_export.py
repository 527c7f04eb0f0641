"""The examples of a `threat_ontology.json`, the export of the threat graph."""

from __future__ import annotations

import hashlib

import msgspec

from schemas.errors import Corrupt
from schemas.journal import Example, Link, Node, Source
from trainers.models.gnn.graph import row_label
from trainers.models.gnn.terms import Relation, Term, graph_of_terms


class _ExportedNode(msgspec.Struct):
    id: str
    kind: str
    name: str = ""
    text: str = ""
    tactics: tuple[str, ...] = ()


class _ExportedEdge(msgspec.Struct):
    id: str
    source: str
    source_kind: str
    relation: str
    target: str
    target_kind: str


class _Export(msgspec.Struct):
    nodes: tuple[_ExportedNode, ...] | None = None
    edges: tuple[_ExportedEdge, ...] | None = None
    terms: tuple[Term, ...] | None = None
    relations: tuple[Relation, ...] | None = None


def examples_of_export(document: bytes, name: str = "threat_ontology.json") -> list[Example]:
    """The examples of an export: those that the journal has for the same nodes and edges, with the same keys.

    A file with `nodes` and `edges` is read from these; one that has only `terms` and `relations`, from those.

    Args:
        document: The content of the file, JSON.
        name: Of the file, for the message.

    Returns:
        Nodes, then links; their offsets are their positions. Empty for an export that has only empty lists.

    Raises:
        Corrupt: The document is not an export, or has neither form; the message says where it differs.
    """
    try:
        export = msgspec.json.decode(document, type=_Export)
    except msgspec.DecodeError as error:  # a validation error is a decode error
        raise Corrupt(
            f"{name} is no export of the threat graph: {error}; write it again with `sx9 export ontology`"
        ) from error
    if all(part is None for part in (export.nodes, export.edges, export.terms, export.relations)):
        raise Corrupt(
            f"{name} is no export of the threat graph: it has neither `nodes` and `edges` nor `terms` and "
            "`relations`; write it again with `sx9 export ontology`"
        )
    nodes, edges = export.nodes or (), export.edges or ()
    if nodes or edges:
        return [_node_example(i, node) for i, node in enumerate(nodes)] + [
            _link_example(i, edge) for i, edge in enumerate(edges, len(nodes))
        ]
    graph = graph_of_terms(export.terms or (), export.relations or ())
    return [_example_of_node(i, node, labels) for i, (node, labels) in enumerate(graph.nodes)] + [
        _example_of_link(i, f"{link.source}>{link.relation}>{link.target}", link)
        for i, link in enumerate(graph.links, len(graph.nodes))
    ]


def _node_example(offset: int, exported: _ExportedNode) -> Example:
    node = Node(id=exported.id, kind=exported.kind, name=exported.name, text=exported.text)
    return _example_of_node(offset, node, tuple(sorted(set(exported.tactics))))


def _example_of_node(offset: int, node: Node, labels: tuple[str, ...]) -> Example:
    return Example(
        source=_source(offset),
        key=f"node:{node.id}",
        hash=_content_hash(node, labels),
        labels=labels,
        node=node,
    )


def _link_example(offset: int, exported: _ExportedEdge) -> Example:
    link = Link(
        source=exported.source,
        source_kind=exported.source_kind,
        relation=exported.relation,
        target=exported.target,
        target_kind=exported.target_kind,
    )
    return _example_of_link(offset, exported.id, link)


def _example_of_link(offset: int, id_: str, link: Link) -> Example:
    labels = (row_label(link),)
    return Example(
        source=_source(offset),
        key=f"link:{id_}",
        hash=_content_hash(link, labels),
        labels=labels,
        link=link,
    )


def _source(offset: int) -> Source:
    return Source("threat_ontology", 0, offset)


def _content_hash(content: Node | Link, labels: tuple[str, ...]) -> str:
    """As the projections of the journal compute it, for an example that is not retracted."""
    encoded = msgspec.json.encode(content).decode()
    return hashlib.blake2b("\x00".join((encoded, *labels, "False")).encode(), digest_size=8).hexdigest()
