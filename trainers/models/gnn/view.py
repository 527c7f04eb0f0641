"""A graph as tensors (`View`), and the batches of sources that are scored in it (`SourceBatch`)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import msgspec
import torch
from torch import nn

from schemas.errors import BadConfiguration
from schemas.journal import Node
from trainers.models.gnn.graph import Graph, LinkRow, link_rows, multi_hot
from trainers.models.gnn.shape import Shape, positions

_MIN_RIDGE = 1.0
_RIDGE_PER_ROW = 0.25


class View:
    """A graph as tensors. Float tensors are float32, index tensors int64; all but `text_mean` are on `device`.

    A target is a technique, by its position in `targets`. A row is a `LinkRow`, by its position in `rows`.

    Args:
        graph: Its kinds, edge types and row labels must all be in `shape`.
        texts: (nodes, dim), text vectors of any length; 0 for a node without a text.
        shape: Gives the indices of kinds, types, labels and relations.
        device: Where the tensors are.

    Attributes:
        graph: The graph.
        rows: Its link rows.
        targets: Indices of the technique nodes.
        column: Index of a technique node -> its position in `targets`.
        device: Where the tensors are.
        text_mean: (dim,), mean of the text vectors after each is scaled to length 1; on the CPU.
        text: (nodes, dim), text vectors less their mean, scaled to length 1; 0 for a node without a text.
        kind: (nodes,), index into `shape.kinds`.
        edges: (2, 2 edges), node indices: every edge, then every edge reversed.
        types: (2 edges,), twice the index into `shape.types`, plus 1 for a reversed edge.
        row_of_edge: (2 edges,), the row that an edge belongs to; -1 for none.
        target_nodes: (targets,), node index of each target.
        known: (rows, targets), 1 where the row has the target, else 0.
        row_source: (rows,), node index of the row's source.
        row_label: (rows,), index into `shape.labels`.
        row_relation: (rows,), index into `shape.relations`.
        counts: (relations, targets), rows of a relation that have the target.
        counts_by_label: (labels, targets), rows of a label that have the target.
        co_occurrence: (relations, targets, targets), rows of a relation that have both targets; 0 on the diagonal.
        gram_inverse: (relations, targets, targets), inverse of the matrix of co-occurrences with `counts` on its
            diagonal plus a ridge; computed in float64.
        parents: (targets, targets), 1 at [i, j] where an edge leads from technique i to technique j, else 0.
        siblings: (targets, targets), 1 where two techniques have a parent in common, else 0; 0 on the diagonal.
    """

    def __init__(self, graph: Graph, texts: torch.Tensor, shape: Shape, device: torch.device) -> None:
        self.graph, self.rows, self.device = graph, link_rows(graph), device
        self.targets = graph.targets
        self.column = {node: i for i, node in enumerate(self.targets)}
        self._add_nodes(texts, shape)
        self._add_edges(shape)
        self._add_rows(shape)
        self._add_counts(len(shape.labels), len(shape.relations))
        self._add_technique_tree()

    def _add_nodes(self, texts: torch.Tensor, shape: Shape) -> None:
        has_text = texts.norm(dim=1, keepdim=True) > 0
        unit = nn.functional.normalize(texts.float(), dim=1)
        self.text_mean = unit.sum(0) / has_text.sum().clamp(min=1)
        self.text = _centred(texts, self.text_mean).to(self.device)
        kinds = positions(shape.kinds)
        self.kind = self._indices([kinds[node.kind] for node in self.graph.nodes])
        self.target_nodes = self._indices(self.targets)

    def _add_edges(self, shape: Shape) -> None:
        graph, types = self.graph, positions(shape.types)
        number_of_name = torch.tensor([types[name] for name in graph.type_names], dtype=torch.long)
        numbers = (
            number_of_name[torch.from_numpy(graph.types)] if len(graph.types) else torch.zeros(0, dtype=torch.long)
        )
        edges = torch.from_numpy(graph.edges)
        self.edges = torch.cat([edges, edges.flip(0)], 1).to(self.device)
        self.types = torch.cat([2 * numbers, 2 * numbers + 1]).to(self.device)
        row = {(row.source, row.label): i for i, row in enumerate(self.rows)}
        row_of_edge = []
        for source, target, number in zip(*graph.edges.tolist(), graph.types.tolist(), strict=True):
            kind, relation, _ = graph.type_names[number].split(":")
            row_of_edge.append(row.get((source, f"{relation}:{kind}"), -1) if target in self.column else -1)
        self.row_of_edge = self._indices(row_of_edge + row_of_edge)

    def _add_rows(self, shape: Shape) -> None:
        labels, relations = positions(shape.labels), positions(shape.relations)
        self.known = torch.from_numpy(multi_hot([row.targets for row in self.rows], self.column)).to(self.device)
        self.row_source = self._indices([row.source for row in self.rows])
        self.row_label = self._indices([labels[row.label] for row in self.rows])
        self.row_relation = self._indices([relations[row.relation] for row in self.rows])

    def _add_counts(self, labels: int, relations: int) -> None:
        """Sums over all rows; when a row is scored, its own part is subtracted from them."""
        size = len(self.targets)
        self.co_occurrence = torch.zeros(relations, size, size, device=self.device)
        self.gram_inverse = torch.zeros(relations, size, size, device=self.device)
        self.counts = torch.zeros(relations, size, device=self.device)
        self.counts_by_label = torch.zeros(labels, size, device=self.device)
        eye = torch.eye(size, dtype=torch.float64, device=self.device)
        for i in range(relations):
            known = self.known[self.row_relation == i]
            gram = known.T @ known
            self.counts[i] = gram.diag()
            ridge = max(_MIN_RIDGE, _RIDGE_PER_ROW * len(known))
            self.gram_inverse[i] = torch.linalg.inv(gram.double() + ridge * eye).float() if size else gram
            self.co_occurrence[i] = gram - torch.diag(gram.diag())
        for i in range(labels):
            self.counts_by_label[i] = self.known[self.row_label == i].sum(0)

    def _add_technique_tree(self) -> None:
        self.parents = torch.zeros(len(self.targets), len(self.targets), device=self.device)
        for source, target in self.graph.edges.T.tolist():
            if source in self.column and target in self.column:
                self.parents[self.column[source], self.column[target]] = 1.0
        siblings = (self.parents @ self.parents.T > 0).float()
        self.siblings = siblings - torch.diag(siblings.diag())

    def _indices(self, values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(list(values), dtype=torch.long, device=self.device)


def _centred(texts: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """(nodes, dim), text vectors less a mean, of length 1; 0 stays 0."""
    has_text = texts.norm(dim=1, keepdim=True) > 0
    unit = nn.functional.normalize(texts.float(), dim=1)
    centred: torch.Tensor = nn.functional.normalize(unit - mean, dim=1) * has_text
    return centred


def with_unseen_nodes(view: View, shape: Shape, nodes: Sequence[Node], texts: torch.Tensor) -> View:
    """A copy of a view with more nodes after its own, which have no edges.

    Args:
        view: Not changed.
        shape: Of the network.
        nodes: To add; their kinds must be in `shape`.
        texts: (nodes, dim), their text vectors, of any length; 0 for none.

    Raises:
        BadConfiguration: The network does not know the kind of a node.
    """
    kinds = positions(shape.kinds)
    for node in nodes:
        if node.kind not in kinds:
            raise BadConfiguration(f"this version knows no {node.kind!r}: kinds are {', '.join(shape.kinds)}")
    extended = copy.copy(view)
    extended.text = torch.cat([view.text, _centred(texts, view.text_mean).to(view.device)])
    kind = torch.tensor([kinds[node.kind] for node in nodes], dtype=torch.long, device=view.device)
    extended.kind = torch.cat([view.kind, kind])
    extended.graph = Graph((*view.graph.nodes, *nodes), view.graph.edges, view.graph.types, view.graph.type_names)
    return extended


class SourceBatch(msgspec.Struct, frozen=True):
    """Sources whose techniques are scored.

    Attributes:
        rows: (batch,), int64: the view's row of each source, whose own links are ignored; -1 for none.
        nodes: (batch,), int64: node index of each source.
        labels: (batch,), int64: index into `Shape.labels`.
        relations: (batch,), int64: index into `Shape.relations`.
        shown: (batch, targets), float32: 1 for a technique that the network is given, else 0.
    """

    rows: torch.Tensor
    nodes: torch.Tensor
    labels: torch.Tensor
    relations: torch.Tensor
    shown: torch.Tensor


def make_batch(view: View, shape: Shape, rows: Sequence[LinkRow]) -> SourceBatch:
    """A batch of sources that are nodes of a view, whether the view has rows of them or not.

    Args:
        view: Where they are scored.
        shape: Of the network; must have the labels of the rows.
        rows: Their targets are the techniques that are shown.
    """
    row_index = {(row.source, row.label): i for i, row in enumerate(view.rows)}
    labels, relations = positions(shape.labels), positions(shape.relations)

    def indices(values: list[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=view.device)

    return SourceBatch(
        rows=indices([row_index.get((row.source, row.label), -1) for row in rows]),
        nodes=indices([row.source for row in rows]),
        labels=indices([labels[row.label] for row in rows]),
        relations=indices([relations[row.relation] for row in rows]),
        shown=torch.from_numpy(multi_hot([row.targets for row in rows], view.column)).to(view.device),
    )
