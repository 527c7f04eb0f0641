"""The network of `gnn-threat`: what it sees of a graph (`View`), and how it scores techniques for a source.

    text, kind ──> two convolutions over typed edges ──> h of every node ──┬──> tactics of a technique
                                                                           │
    techniques shown ──> mean of their h ──┐                               │
    h of the source, label of the row ─────┴──> z ── z · out(h) ───────────┴──> score of a technique, with
                                                                                  weights learnt for
    paths source ─> technique ─> source ─> technique: co-occurrence (a ridge filter, a cosine) and attention to
    sources with alike texts and alike techniques; alike texts; neighbours of what is shown; how often it is used

The weights of the paths, and how sharply sources with alike techniques are told from others, change with how many
techniques are shown: of two nothing much follows, and a source with fifty is known by them rather than by its text.
Nothing here belongs to one node, so the network scores sources and techniques it never saw. While a source is
scored, its own edges to techniques are taken out of everything but "techniques shown": trained as it is used.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence

import msgspec
import torch
from torch import nn

from schemas.errors import BadConfiguration
from schemas.journal import Node
from trainers.models.gnn.graph import Graph, Row, matrix, rows_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecations between torch and its own library
    from torch_geometric.nn import RGCNConv

HEADS = 3
"""Of the attention to other sources; they begin at texts, at techniques, and at both."""
PATHS = ("filter", "cosine", "used", "used by kind", "text", "shown texts", "beside", "above", "below")
_PATHS_AT_FIRST = (7.0, 0.5, 0.3, 0.1, 3.0, 1.0, 0.1, 0.0, 0.0)
_HEADS_AT_FIRST = (0.5, 0.25, 0.25)
_RARE_TACTIC = -2.0
_RARE = 1e-3
_USUAL_NUMBER = 10.0
"""Of techniques shown, about which the weights of the paths change with the number."""


class Shape(msgspec.Struct, frozen=True):
    """What the tensors of a network are indexed by, and their sizes; a parent's is a prefix of its child's."""

    text: int
    width: int
    kinds: tuple[str, ...]
    types: tuple[str, ...]
    labels: tuple[str, ...]
    relations: tuple[str, ...]
    tactics: tuple[str, ...]


class View:
    """A graph as tensors.

    Attributes:
        text: (nodes, dim), each of length 1 around their mean; 0 for a node without a text.
        kind: (nodes,)
        edges, types: (2, 2 edges), (2 edges,): each edge, then each the other way round with a type of its own.
        rows: What the graph knows.
        known: (rows, targets) of 0 and 1.
    """

    def __init__(self, graph: Graph, texts: torch.Tensor, shape: Shape, device: torch.device) -> None:
        """`texts` is (nodes, dim), in any length."""
        self.graph, self.rows, self.device = graph, rows_of(graph), device
        self.targets = graph.targets
        self.column = {node: i for i, node in enumerate(self.targets)}
        has = texts.norm(dim=1, keepdim=True) > 0
        unit = nn.functional.normalize(texts.float(), dim=1)
        self.mean = unit.sum(0) / has.sum().clamp(min=1)
        self.text = (nn.functional.normalize(unit - self.mean, dim=1) * has).to(device)
        kinds, types = _places(shape.kinds), _places(shape.types)
        self.kind = torch.tensor([kinds[node.kind] for node in graph.nodes], dtype=torch.long, device=device)
        types_of = torch.tensor([types[name] for name in graph.type_names], dtype=torch.long)
        number = types_of[torch.from_numpy(graph.types)] if len(graph.types) else torch.zeros(0, dtype=torch.long)
        edges = torch.from_numpy(graph.edges)
        self.edges = torch.cat([edges, edges.flip(0)], 1).to(device)
        self.types = torch.cat([2 * number, 2 * number + 1]).to(device)
        labels, relations = _places(shape.labels), _places(shape.relations)
        self.known = torch.from_numpy(matrix([row.targets for row in self.rows], self.column)).to(device)
        self.source = self._long([row.source for row in self.rows])
        self.label = self._long([labels[row.label] for row in self.rows])
        self.relation = self._long([relations[row.relation] for row in self.rows])
        self.row_of_edge = self._row_of_edge()
        self.target = self._long(self.targets)
        self._prepare(len(shape.labels), len(shape.relations))

    def _long(self, values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(list(values), dtype=torch.long, device=self.device)

    def _row_of_edge(self) -> torch.Tensor:
        """(2 edges,): index of the row that an edge is of, either way; -1 for none."""
        place = {(row.source, row.label): i for i, row in enumerate(self.rows)}
        column = self.column
        found = []
        for source, target, number in zip(*self.graph.edges.tolist(), self.graph.types.tolist(), strict=True):
            kind, relation, _ = self.graph.type_names[number].split(":")
            found.append(place.get((source, f"{relation}:{kind}"), -1) if target in column else -1)
        return self._long(found + found)

    def _prepare(self, labels: int, relations: int) -> None:
        """Sums over all rows that scoring takes a row's own part out of."""
        size = len(self.targets)
        self.together = torch.zeros(relations, size, size, device=self.device)
        self.inverse = torch.zeros(relations, size, size, device=self.device)
        self.counts = torch.zeros(relations, size, device=self.device)
        self.by_label = torch.zeros(labels, size, device=self.device)
        for i in range(relations):
            known = self.known[self.relation == i]
            both = known.T @ known
            self.counts[i] = both.diag()
            ridge = max(1.0, 0.25 * len(known))
            eye = torch.eye(size, dtype=torch.float64, device=self.device)
            self.inverse[i] = torch.linalg.inv(both.double() + ridge * eye).float() if size else both
            self.together[i] = both - torch.diag(both.diag())
        for i in range(labels):
            self.by_label[i] = self.known[self.label == i].sum(0)
        beside = torch.zeros(size, size, device=self.device)
        for source, target in self.graph.edges.T.tolist():
            if source in self.column and target in self.column:
                beside[self.column[source], self.column[target]] = 1.0
        self.above = beside  # (lower, upper)
        siblings = (beside @ beside.T > 0).float()
        self.beside = siblings - torch.diag(siblings.diag())


def with_strangers(view: View, shape: Shape, nodes: Sequence[Node], vectors: torch.Tensor) -> View:
    """A view with nodes more, after its own, that are joined to nothing.

    Args:
        vectors: (nodes, dim) of their texts, in any length; 0 for none.

    Raises:
        BadConfiguration: A node is of a kind that the network doesn't know.
    """
    kinds = _places(shape.kinds)
    for node in nodes:
        if node.kind not in kinds:
            raise BadConfiguration(f"this version knows no {node.kind!r}: kinds are {', '.join(shape.kinds)}")
    more = copy.copy(view)
    has = vectors.norm(dim=1, keepdim=True) > 0
    unit = nn.functional.normalize(vectors.float(), dim=1)
    text = nn.functional.normalize(unit - view.mean, dim=1) * has
    more.text = torch.cat([view.text, text.to(view.device)])
    kind = torch.tensor([kinds[node.kind] for node in nodes], dtype=torch.long, device=view.device)
    more.kind = torch.cat([view.kind, kind])
    more.graph = Graph((*view.graph.nodes, *nodes), view.graph.edges, view.graph.types, view.graph.type_names)
    return more


def _places(names: Sequence[str]) -> dict[str, int]:
    return {name: i for i, name in enumerate(names)}


class Question(msgspec.Struct, frozen=True):
    """Rows to score.

    Attributes:
        rows: (batch,) indices of rows of the view, whose own edges don't count; -1 for a source without one.
        nodes: (batch,) indices of their sources.
        labels, relations: (batch,)
        shown: (batch, targets) of 0 and 1: what is known of each.
    """

    rows: torch.Tensor
    nodes: torch.Tensor
    labels: torch.Tensor
    relations: torch.Tensor
    shown: torch.Tensor


class ThreatGnn(nn.Module):
    """See the module."""

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        width, relations = shape.width, len(shape.relations)
        self.shape, self.dropout = shape, nn.Dropout(dropout)
        self.text = nn.Linear(shape.text, width)
        self.kind = nn.Parameter(torch.randn(len(shape.kinds), width) * 0.02)
        self.convolutions = nn.ModuleList(RGCNConv(width, width, 2 * len(shape.types)) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.from_shown = nn.Linear(width, width)
        self.from_source = nn.Linear(width, width, bias=False)
        self.label = nn.Parameter(torch.randn(len(shape.labels), width) * 0.02)
        self.mix = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.tactics = nn.Parameter(torch.zeros(len(shape.tactics), width + shape.text))
        self.tactics_bias = nn.Parameter(torch.full((len(shape.tactics),), _RARE_TACTIC))
        self.paths = nn.Parameter(torch.tensor(_PATHS_AT_FIRST).repeat(relations, 1))
        self.alike_text = nn.Parameter(torch.tensor([10.0, 2.0, 6.0]))
        self.alike_shown = nn.Parameter(torch.tensor([1.0, 12.0, 6.0]))
        self.alike_label = nn.Parameter(torch.full((HEADS,), 0.5))
        self.smooth = nn.Parameter(torch.full((HEADS,), -6.0))
        self.attention = nn.Parameter(torch.tensor(_HEADS_AT_FIRST).repeat(relations, 1))
        self.paths_by_number = nn.Parameter(torch.zeros(relations, len(PATHS)))
        self.attention_by_number = nn.Parameter(torch.zeros(relations, HEADS))
        self.sharper_by_number = nn.Parameter(torch.zeros(HEADS))

    def hidden(self, view: View, without: torch.Tensor | None = None) -> torch.Tensor:
        """h of every node, (nodes, width). Edges of the rows `without` are left out."""
        edges, types = view.edges, view.types
        if without is not None and len(view.rows):
            gone = torch.zeros(len(view.rows) + 1, dtype=torch.bool, device=edges.device)
            gone[without] = True
            gone[-1] = False
            keep = ~gone[view.row_of_edge]
            edges, types = edges[:, keep], types[keep]
        h = self.text(self.dropout(view.text)) + self.kind[view.kind]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            h = h + nn.functional.gelu(norm(convolution(self.dropout(h), edges, types)))
        return h

    def sources(self, view: View, asked: Question, h: torch.Tensor) -> torch.Tensor:
        """z of each row, (batch, width)."""
        scale = asked.shown.sum(1, keepdim=True).clamp(min=1.0).sqrt()
        mean = asked.shown @ self.dropout(h[view.target]) / scale
        z = self.from_shown(mean) + self.from_source(self.dropout(h[asked.nodes])) + self.label[asked.labels]
        return self.mix(self.dropout(nn.functional.gelu(z)))

    def forward(self, view: View, asked: Question, nodes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What all is trained on.

        Returns:
            (batch, targets), score of every target for every row, probabilities after a softmax; and (nodes,
            tactics), logit of each tactic of some nodes.
        """
        h = self.hidden(view, asked.rows)
        known = torch.cat([self.dropout(h[nodes]), self.dropout(view.text[nodes])], 1)
        logits = known @ self.tactics.T + self.tactics_bias
        return self._scores(view, asked, h), logits

    def _scores(self, view: View, asked: Question, h: torch.Tensor) -> torch.Tensor:
        z = self.sources(view, asked, h)
        scores = z @ self.out(self.dropout(h[view.target])).T / self.shape.width**0.5
        features = torch.stack(self._paths(view, asked))  # (paths, batch, targets)
        weights = self.paths[asked.relations] + _number(asked) * self.paths_by_number[asked.relations]
        scores = scores + torch.einsum("pbt,bp->bt", features, weights)
        return scores + self._attention(view, asked)

    def _paths(self, view: View, asked: Question) -> list[torch.Tensor]:
        shown, own = asked.shown, _own(view, asked)
        total = shown.sum(1, keepdim=True)
        root = total.clamp(min=1.0).sqrt()
        counts = view.counts[asked.relations] - own  # (batch, targets): of the other rows
        length = (counts + _RARE).clamp(min=0.5).sqrt()
        weighted = shown / length
        cosine = _each(view.together, weighted, asked.relations) - (weighted.sum(1, keepdim=True) - weighted) * own
        by_label = view.by_label[asked.labels] - own
        share = (by_label + 0.02 * counts + 0.3) / by_label.sum(1, keepdim=True).clamp(min=1.0)
        texts = view.text[view.target]
        return [
            _ridge_filter(view, shown, own, asked.relations),
            cosine / length / root,
            torch.log((counts + 1.0) / counts.sum(1, keepdim=True).clamp(min=1.0)),
            torch.log(share),
            view.text[asked.nodes] @ texts.T,
            nn.functional.normalize(shown @ texts, dim=1) @ texts.T,
            (shown @ view.beside > 0).float(),
            (shown @ view.above > 0).float(),
            (shown @ view.above.T > 0).float(),
        ]

    def _attention(self, view: View, asked: Question) -> torch.Tensor:
        """Log of how likely a target is among the other rows that each row is like, summed over the heads."""
        other = view.relation[None] != asked.relations[:, None]
        other = other | (torch.arange(len(view.rows), device=other.device)[None] == asked.rows[:, None])
        if not len(view.rows):
            return torch.zeros_like(asked.shown)
        mine = nn.functional.normalize(asked.shown, dim=1)
        theirs = nn.functional.normalize(view.known, dim=1)
        shown = mine @ theirs.T  # (batch, rows)
        text = view.text[asked.nodes] @ view.text[view.source].T
        label = (view.label[None] == asked.labels[:, None]).float()
        parts = view.known / view.known.sum(1, keepdim=True).clamp(min=1.0).sqrt()
        scores, number = torch.zeros_like(asked.shown), _number(asked)
        weights = self.attention[asked.relations] + number * self.attention_by_number[asked.relations]
        for i in range(HEADS):
            sharp = self.alike_shown[i] * torch.exp(self.sharper_by_number[i] * number)
            like = self.alike_text[i] * text + sharp * shown + self.alike_label[i] * label
            near = like.masked_fill(other, -1e4).softmax(1) * ~other
            scores = scores + weights[:, i : i + 1] * torch.log(near @ parts + torch.exp(self.smooth[i]))
        return scores

    @torch.no_grad()
    def embeddings(self, view: View) -> torch.Tensor:
        """Of every node, (nodes, width), of length 1: `out(h)`, or z of a source that has a row."""
        h = self.hidden(view)
        found = self.out(h)
        if len(view.rows):
            z = self.sources(view, asked_of(view, self.shape, view.rows), h)
            found[view.source] = z
        return nn.functional.normalize(found, dim=1)


def _number(asked: Question) -> torch.Tensor:
    """(batch, 1): how many techniques are shown of each row, as the log of its ratio to a usual number."""
    return torch.log((asked.shown.sum(1, keepdim=True) + 1.0) / _USUAL_NUMBER)


def _own(view: View, asked: Question) -> torch.Tensor:
    """(batch, targets): what the view knows of each row; 0 for a source without one."""
    if not len(view.rows):
        return torch.zeros_like(asked.shown)
    return view.known[asked.rows.clamp(min=0)] * (asked.rows >= 0).float()[:, None]


def _each(matrices: torch.Tensor, vectors: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """Row i of `vectors` times matrix `which[i]`."""
    if len(matrices) == 1:
        return vectors @ matrices[0]
    out = torch.zeros_like(vectors)
    for i in range(len(matrices)):
        out = torch.where((which == i)[:, None], vectors @ matrices[i], out)
    return out


def _ridge_filter(view: View, shown: torch.Tensor, own: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
    """What the shown targets say of every other, by ridge regression over all rows but the row itself.

    The weights are those of EASE (Steck 2019), -P[i, j] / P[j, j] with P the inverse of the counts of pairs plus a
    ridge; a row leaves P by the formula of Sherman and Morrison.
    """
    through = _each(view.inverse, own, relations)
    rest = (1.0 - (through * own).sum(1, keepdim=True)).clamp(min=_RARE)
    found = _each(view.inverse, shown, relations) + (shown * through).sum(1, keepdim=True) * through / rest
    diagonal = view.inverse.diagonal(dim1=1, dim2=2)[relations] + through * through / rest
    return -found / diagonal.clamp(min=1e-9)


def asked_of(view: View, shape: Shape, rows: Sequence[Row]) -> Question:
    """Ask about sources that are nodes of the view, whether it has a row of theirs or not.

    Args:
        rows: Their targets are what is shown of them.
    """
    place = {(row.source, row.label): i for i, row in enumerate(view.rows)}
    labels, relations = _places(shape.labels), _places(shape.relations)

    def long(values: list[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=view.device)

    return Question(
        rows=long([place.get((row.source, row.label), -1) for row in rows]),
        nodes=long([row.source for row in rows]),
        labels=long([labels[row.label] for row in rows]),
        relations=long([relations[row.relation] for row in rows]),
        shown=torch.from_numpy(matrix([row.targets for row in rows], view.column)).to(view.device),
    )


def grown(parent: ThreatGnn, child: ThreatGnn) -> None:
    """Copy a parent into a child whose tensors have as many rows or more; what is new in them begins at 0."""
    theirs = dict(parent.named_parameters())
    with torch.no_grad():
        for name, tensor in child.named_parameters():
            old = theirs[name]
            first = {"paths": _PATHS_AT_FIRST, "attention": _HEADS_AT_FIRST, "tactics_bias": _RARE_TACTIC}.get(
                name, 0.0
            )
            tensor.copy_(torch.tensor(first))
            tensor[tuple(slice(0, size) for size in old.shape)] = old
