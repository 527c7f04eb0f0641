"""The examples of a `threat_ontology.json`, the export of the threat graph."""

from __future__ import annotations

import hashlib

import msgspec

from schemas.errors import Corrupt
from schemas.journal import Example, Link, Node, Source
from trainers.models.gnn.graph import row_label


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
    nodes: tuple[_ExportedNode, ...] = ()
    edges: tuple[_ExportedEdge, ...] = ()


def examples_of_export(document: bytes, name: str = "threat_ontology.json") -> list[Example]:
    """The examples of an export: those that the journal has for the same nodes and edges, with the same keys.

    Args:
        document: The content of the file, JSON.
        name: Of the file, for the message.

    Returns:
        Nodes, then links; their offsets are their positions. Empty for an export without nodes and edges.

    Raises:
        Corrupt: The document is not an export; the message says where it differs.
    """
    try:
        export = msgspec.json.decode(document, type=_Export)
    except msgspec.DecodeError as error:  # a validation error is a decode error
        raise Corrupt(
            f"{name} is no export of the threat graph: {error}; write it again with `sx9 export ontology`"
        ) from error
    return [_node_example(i, node) for i, node in enumerate(export.nodes)] + [
        _link_example(i, edge) for i, edge in enumerate(export.edges, len(export.nodes))
    ]


def _node_example(offset: int, exported: _ExportedNode) -> Example:
    node = Node(id=exported.id, kind=exported.kind, name=exported.name, text=exported.text)
    labels = tuple(sorted(set(exported.tactics)))
    return Example(
        source=_source(offset),
        key=f"node:{exported.id}",
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
    labels = (row_label(link),)
    return Example(
        source=_source(offset),
        key=f"link:{exported.id}",
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
