"""The threat graph as a fold over examples: nodes with texts, typed edges, and the rows that a model ranks.

    examples ──> nodes: from their events, or named by a link alone
             └─> edges: of the training side; an edge that the holdout has is not there under any key
                   └─> rows: a source and a relation, with the techniques at the other end

A row is what is predicted: which techniques a group, a tool, a mitigation, ... goes with. All other edges (a
technique and its sub-techniques, a campaign and its group) are passed along and not predicted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.errors import Corrupt
from schemas.journal import Example, Link, Node, Source

TARGET = "technique"
"""Kind of the nodes that are ranked."""

Ints = npt.NDArray[np.int64]


class Row(msgspec.Struct, frozen=True):
    """A source and what it is joined to: indices of nodes, and the label `<relation>:<kind of the source>`."""

    source: int
    label: str
    targets: tuple[int, ...]

    @property
    def relation(self) -> str:
        return self.label.partition(":")[0]


class Graph(msgspec.Struct, frozen=True):
    """Nodes, and the edges of the training side.

    Attributes:
        nodes: Sorted by id.
        edges: (2, edges): indices of sources and of targets; no edge twice.
        types: (edges,): index into `type_names`.
        type_names: `<kind of the source>:<relation>:<kind of the target>`, sorted.
    """

    nodes: tuple[Node, ...]
    edges: Ints
    types: Ints
    type_names: tuple[str, ...]

    @property
    def index(self) -> dict[str, int]:
        """Id -> index of the node."""
        return {node.id: i for i, node in enumerate(self.nodes)}

    @property
    def targets(self) -> tuple[int, ...]:
        """Indices of the nodes that are ranked."""
        return tuple(i for i, node in enumerate(self.nodes) if node.kind == TARGET)


def graph_of(examples: Iterable[Example], judged: Iterable[Link] = ()) -> Graph:
    """The graph of some examples, of which the last of each key counts.

    A node that has no event of its own gets its kind from the first edge that names it, and no text.

    Args:
        examples: In order of their offsets.
        judged: Links that are not edges, whatever the examples say; they make no node either.
    """
    latest = {example.key: example for example in examples}
    standing = [example for example in latest.values() if not example.retracted]
    links = {example.link for example in standing if example.link} - set(judged)
    named: dict[str, Node] = {}
    for link in sorted(links, key=_order):
        named.setdefault(link.source, Node(id=link.source, kind=link.source_kind))
        named.setdefault(link.target, Node(id=link.target, kind=link.target_kind))
    named |= {example.node.id: example.node for example in standing if example.node}
    nodes = tuple(named[key] for key in sorted(named))
    return _graph(nodes, sorted(links, key=_order))


def _order(link: Link) -> tuple[str, ...]:
    return (link.source, link.relation, link.target, link.source_kind, link.target_kind)


def _graph(nodes: tuple[Node, ...], links: Sequence[Link]) -> Graph:
    index = {node.id: i for i, node in enumerate(nodes)}
    names = [f"{link.source_kind}:{link.relation}:{link.target_kind}" for link in links]
    type_names = tuple(sorted(set(names)))
    number = {name: i for i, name in enumerate(type_names)}
    edges = np.array([(index[link.source], index[link.target]) for link in links], dtype=np.int64).reshape(-1, 2)
    return Graph(nodes, edges.T.copy(), np.array([number[name] for name in names], dtype=np.int64), type_names)


def rows_of(graph: Graph) -> tuple[Row, ...]:
    """What the graph knows of each source that is joined to techniques, in order of source and label."""
    found: dict[tuple[int, str], set[int]] = {}
    for source, target, number in zip(*graph.edges.tolist(), graph.types.tolist(), strict=True):
        source_kind, relation, target_kind = graph.type_names[number].split(":")
        if target_kind == TARGET and source_kind != TARGET:
            found.setdefault((source, f"{relation}:{source_kind}"), set()).add(target)
    return tuple(Row(source, label, tuple(sorted(found[source, label]))) for source, label in sorted(found))


def predicted(link: Link) -> bool:
    """Whether a link is of a row."""
    return link.target_kind == TARGET and link.source_kind != TARGET


def row_label(link: Link) -> str:
    """The label of the row that a link belongs to.

    >>> row_label(Link(source="G1", source_kind="group", relation="uses", target="T1", target_kind="technique"))
    'uses:group'
    """
    return f"{link.relation}:{link.source_kind}"


def without(graph: Graph, links: Iterable[Link]) -> Graph:
    """The graph with all its nodes, but not these edges."""
    index = graph.index
    gone = {(index.get(x.source), index.get(x.target), x.relation) for x in links}
    relations = [name.split(":")[1] for name in graph.type_names]
    keep = [
        (source, target, relations[number]) not in gone
        for source, target, number in zip(*graph.edges.tolist(), graph.types.tolist(), strict=True)
    ]
    return Graph(graph.nodes, graph.edges[:, keep], graph.types[keep], graph.type_names)


def sample(graph: Graph, seeds: Sequence[int], per_hop: Sequence[int], draw: np.random.Generator) -> Ints:
    """Nodes around some nodes, so many hops as `per_hop` has numbers.

    Args:
        seeds: Indices of nodes; all of them are in the result, first and in this order.
        per_hop: At each hop, at most so many neighbours of a node are taken, by chance, along edges either way.
        draw: Makes the chance.

    Returns:
        Indices of nodes, each once: at most `len(seeds)` times the product of (1 + number).
    """
    both = np.concatenate([graph.edges, graph.edges[::-1]], axis=1)
    order = np.argsort(both[0], kind="stable")
    neighbours, starts = both[1][order], np.searchsorted(both[0][order], np.arange(len(graph.nodes) + 1))
    taken = dict.fromkeys(seeds)
    frontier = list(taken)
    for most in per_hop:
        reached: dict[int, None] = {}
        for node in frontier:
            around = neighbours[starts[node] : starts[node + 1]]
            if len(around) > most:
                around = draw.choice(around, most, replace=False)
            reached |= dict.fromkeys(int(x) for x in around)
        frontier = [node for node in reached if node not in taken]
        taken |= dict.fromkeys(frontier)
    return np.array(list(taken), dtype=np.int64)


def induced(graph: Graph, nodes: Ints) -> Graph:
    """The graph of some nodes, in their order, and all edges between two of them."""
    place = np.full(len(graph.nodes), -1, dtype=np.int64)
    place[nodes] = np.arange(len(nodes))
    ends = place[graph.edges]  # (2, edges)
    keep = (ends >= 0).all(0)
    return Graph(tuple(graph.nodes[i] for i in nodes), ends[:, keep], graph.types[keep], graph.type_names)


# ---- threat_ontology.json


class _ExportNode(msgspec.Struct):
    id: str
    kind: str
    name: str = ""
    text: str = ""
    tactics: tuple[str, ...] = ()


class _ExportEdge(msgspec.Struct):
    id: str
    source: str
    source_kind: str
    relation: str
    target: str
    target_kind: str


class _Export(msgspec.Struct):
    nodes: tuple[_ExportNode, ...] = ()
    edges: tuple[_ExportEdge, ...] = ()


def load_export(path: Path) -> list[Example]:
    """The examples in a `threat_ontology.json`: what the journal has of the same nodes and edges, key and all.

    Raises:
        Corrupt: It isn't there, or isn't such a file; the message says where.
    """
    try:
        export = msgspec.json.decode(path.read_bytes(), type=_Export)
    except (OSError, msgspec.DecodeError) as error:  # a validation error is a decode error
        raise Corrupt(
            f"{path} is no export of the threat graph: {error}; write it again with its command"
        ) from error
    return [_of_node(i, node) for i, node in enumerate(export.nodes)] + [
        _of_edge(i, edge) for i, edge in enumerate(export.edges, len(export.nodes))
    ]


def _of_node(place: int, node: _ExportNode) -> Example:
    about = Node(id=node.id, kind=node.kind, name=node.name, text=node.text)
    return _example(place, f"node:{node.id}", tuple(sorted(set(node.tactics))), node=about)


def _of_edge(place: int, edge: _ExportEdge) -> Example:
    link = Link(
        source=edge.source,
        source_kind=edge.source_kind,
        relation=edge.relation,
        target=edge.target,
        target_kind=edge.target_kind,
    )
    return _example(place, f"link:{edge.id}", (row_label(link),), link=link)


def _example(place: int, key: str, labels: tuple[str, ...], **fields: Any) -> Example:
    content = msgspec.json.encode(next(iter(fields.values()))).decode()
    digest = hashlib.blake2b("\x00".join((content, *labels, "False")).encode(), digest_size=8).hexdigest()
    return Example(source=Source("threat_ontology", 0, place), key=key, hash=digest, labels=labels, **fields)


# ---- the dense form of rows


def matrix(rows: Sequence[Iterable[int]], column: Mapping[int, int]) -> npt.NDArray[np.float32]:
    """(rows, candidates) of 0 and 1: which row has which target; `column` is target -> place."""
    out = np.zeros((len(rows), len(column)), dtype=np.float32)
    for i, targets in enumerate(rows):
        out[i, [column[target] for target in targets]] = 1.0
    return out
