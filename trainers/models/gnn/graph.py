"""The threat graph: nodes with texts, typed edges, and the rows of links that the model predicts.

    examples ──> nodes: from their events, or named by a link alone
             └─> edges: links of the training side; a link of the holdout is not an edge under any key
                   └─> link rows: a source and a relation, with the techniques at the other end

A link from a group, a tool, a mitigation, ... to a technique is predicted. All other edges (a technique and its
sub-techniques, a campaign and its group) only pass messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.journal import Example, Link, Node

TARGET_KIND = "technique"
"""Kind of the nodes that are ranked."""

Ints = npt.NDArray[np.int64]


class LinkRow(msgspec.Struct, frozen=True):
    """The predicted links of one source with one relation: a row of the matrix of sources and techniques.

    Attributes:
        source: Index of the source node.
        label: `<relation>:<kind of the source>`, such as `uses:group`.
        targets: Indices of the technique nodes, sorted.
    """

    source: int
    label: str
    targets: tuple[int, ...]

    @property
    def relation(self) -> str:
        """The relation of the label."""
        return self.label.partition(":")[0]


class Graph(msgspec.Struct, frozen=True):
    """Nodes, and the edges of the training side.

    Attributes:
        nodes: Sorted by id, unless the graph is a subgraph or was extended.
        edges: (2, edges), int64: indices of sources and of targets; no link twice.
        types: (edges,), int64: index into `type_names`.
        type_names: `<kind of the source>:<relation>:<kind of the target>`, sorted.
    """

    nodes: tuple[Node, ...]
    edges: Ints
    types: Ints
    type_names: tuple[str, ...]

    @property
    def index(self) -> dict[str, int]:
        """Id -> index of the node. Built anew by every call."""
        return {node.id: i for i, node in enumerate(self.nodes)}

    @property
    def targets(self) -> tuple[int, ...]:
        """Indices of the nodes that are ranked, in order of the nodes."""
        return tuple(i for i, node in enumerate(self.nodes) if node.kind == TARGET_KIND)


def build_graph(examples: Iterable[Example], excluded_links: Iterable[Link] = ()) -> Graph:
    """The graph of some examples. The last one of each key counts; a retracted one removes its node or link.

    A node that has no event of its own gets its kind from the first link that names it, and no text.

    Args:
        examples: In order of their offsets.
        excluded_links: Links that are left out, whatever the examples contain; they add no nodes either.
    """
    latest = {example.key: example for example in examples}
    current = [example for example in latest.values() if not example.retracted]
    links = {example.link for example in current if example.link} - set(excluded_links)
    nodes: dict[str, Node] = {}
    for link in sorted(links, key=_link_order):
        nodes.setdefault(link.source, Node(id=link.source, kind=link.source_kind))
        nodes.setdefault(link.target, Node(id=link.target, kind=link.target_kind))
    nodes |= {example.node.id: example.node for example in current if example.node}
    return _from_links(tuple(nodes[key] for key in sorted(nodes)), sorted(links, key=_link_order))


def _link_order(link: Link) -> tuple[str, ...]:
    return (link.source, link.relation, link.target, link.source_kind, link.target_kind)


def _from_links(nodes: tuple[Node, ...], links: Sequence[Link]) -> Graph:
    index = {node.id: i for i, node in enumerate(nodes)}
    names = [f"{link.source_kind}:{link.relation}:{link.target_kind}" for link in links]
    type_names = tuple(sorted(set(names)))
    number = {name: i for i, name in enumerate(type_names)}
    edges = np.array([(index[link.source], index[link.target]) for link in links], dtype=np.int64).reshape(-1, 2)
    return Graph(nodes, edges.T.copy(), np.array([number[name] for name in names], dtype=np.int64), type_names)


def link_rows(graph: Graph) -> tuple[LinkRow, ...]:
    """The rows of a graph that have at least one link, in order of source and label."""
    targets: dict[tuple[int, str], set[int]] = {}
    for source, target, number in zip(*graph.edges.tolist(), graph.types.tolist(), strict=True):
        source_kind, relation, target_kind = graph.type_names[number].split(":")
        if target_kind == TARGET_KIND and source_kind != TARGET_KIND:
            targets.setdefault((source, f"{relation}:{source_kind}"), set()).add(target)
    return tuple(LinkRow(source, label, tuple(sorted(targets[source, label]))) for source, label in sorted(targets))


def is_predicted(link: Link) -> bool:
    """Whether a link belongs to a row: it leads to a technique, and not from one.

    >>> is_predicted(Link(source="T2", source_kind="technique", relation="x", target="T1", target_kind="technique"))
    False
    """
    return link.target_kind == TARGET_KIND and link.source_kind != TARGET_KIND


def row_label(link: Link) -> str:
    """The label of the row that a link belongs to.

    >>> row_label(Link(source="G1", source_kind="group", relation="uses", target="T1", target_kind="technique"))
    'uses:group'
    """
    return f"{link.relation}:{link.source_kind}"


def without_links(graph: Graph, links: Iterable[Link]) -> Graph:
    """A graph with the same nodes and without some edges; links that it does not have are ignored."""
    index = graph.index
    removed = {(index.get(link.source), index.get(link.target), link.relation) for link in links}
    relations = [name.split(":")[1] for name in graph.type_names]
    keep = [
        (source, target, relations[number]) not in removed
        for source, target, number in zip(*graph.edges.tolist(), graph.types.tolist(), strict=True)
    ]
    return Graph(graph.nodes, graph.edges[:, keep], graph.types[keep], graph.type_names)


def induced_subgraph(graph: Graph, nodes: Ints) -> Graph:
    """The graph of some nodes and all edges between two of them.

    Args:
        graph: From which it is taken.
        nodes: (nodes,), indices; the subgraph has its nodes in this order.
    """
    position = np.full(len(graph.nodes), -1, dtype=np.int64)
    position[nodes] = np.arange(len(nodes))
    edges = position[graph.edges]  # (2, edges)
    keep = (edges >= 0).all(0)
    return Graph(tuple(graph.nodes[i] for i in nodes), edges[:, keep], graph.types[keep], graph.type_names)


def multi_hot(rows: Sequence[Iterable[int]], column: Mapping[int, int]) -> npt.NDArray[np.float32]:
    """Sets of targets as a matrix.

    Args:
        rows: Targets of each row.
        column: Target -> its column.

    Returns:
        (rows, columns), float32, 1 where the row has the target, else 0.

    >>> multi_hot([[7], [5, 7]], {5: 0, 7: 1}).tolist()
    [[0.0, 1.0], [1.0, 1.0]]
    """
    matrix = np.zeros((len(rows), len(column)), dtype=np.float32)
    for i, targets in enumerate(rows):
        matrix[i, [column[target] for target in targets]] = 1.0
    return matrix
