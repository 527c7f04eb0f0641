"""The network of `gnn-threat`: it scores techniques for a source, and tactics for a technique.

    text, kind ──> two R-GCN layers ──> h of every node ──┬──> tactics of a technique
                                                          │
    techniques shown ──> mean of their h ──┐              │
    h of the source, label of its row ─────┴──> z ── z · out(h) ──┐
                                                                  ├──> score of a technique
    path features, each with a learned weight ────────────────────┤
    attention to sources with similar texts and techniques ───────┘

Path features (`PATH_FEATURES`) follow short paths from the source to a technique: co-occurrence with the techniques
shown (a ridge filter, a cosine), popularity, similar texts, and whether the technique is a sibling, a parent or a
child of one shown. Their weights and the sharpness of the attention depend on how many techniques are shown: two
techniques identify a source less well than its text does, fifty identify it better.

No parameter belongs to one node, so the network scores sources and techniques that it was not trained on. While a
source is scored, its own links are left out of everything except "techniques shown", in training as in use.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import msgspec
import torch
from torch import nn

from schemas.recipes.base import FLOAT32
from trainers.core.precision import autocast
from trainers.models.gnn.shape import Shape
from trainers.models.gnn.view import SourceBatch, View, make_batch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecations between torch and its own library
    from torch_geometric.nn import RGCNConv

HEADS = 3
"""Heads of the attention to other sources: they begin with texts, with techniques, and with both."""
PATH_FEATURES = (
    "ridge filter", "item cosine", "popularity", "popularity by kind", "text of the source", "texts of the shown",
    "sibling", "parent", "child",
)  # fmt: skip
_INITIAL_PATHS = (7.0, 0.5, 0.3, 0.1, 3.0, 1.0, 0.1, 0.0, 0.0)
_INITIAL_ATTENTION = (0.5, 0.25, 0.25)
_INITIAL_TACTICS_BIAS = -2.0
"""A tactic is rare until something is learned about it."""
_EPSILON = 1e-3
_USUAL_SHOWN = 10.0
"""Number of techniques shown at which the weights are not adjusted."""


class ThreatGnn(nn.Module):
    """Link prediction by a relational graph network, path features and attention; see the module.

    The convolutions are R-GCN layers (Schlichtkrull et al. 2018) with residual connections and layer normalization.
    The ridge filter is EASE (Steck 2019). Names of parameters are keys in the weights file: do not change them.

    Args:
        shape: Sizes and meanings of the tensors.
        dropout: Probability of dropout, 0 to 1, in all layers.

    Attributes:
        text: Linear layer from text vectors.
        kind: (kinds, width), added to the nodes of a kind.
        convolutions, norms: The two graph layers.
        from_shown, from_source, label, mix: Layers of the source vector z; `label` is (labels, width).
        out: Linear layer from h of a technique, whose product with z is the score.
        tactics, tactics_bias: (tactics, width + text) and (tactics,), linear layer from a technique's h and text.
        paths: (relations, path features), their weights.
        paths_by_number: The same shape, added in proportion to the log of the number of techniques shown.
        alike_text, alike_shown, alike_label: (heads,), weights of the similarities in the attention.
        smooth: (heads,), log of what is added to attention before its logarithm.
        attention: (relations, heads), weights of the heads.
        attention_by_number: The same shape, added in proportion to the log of the number of techniques shown.
        sharper_by_number: (heads,), exponent by which `alike_shown` grows with that number.
    """

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
        self.tactics_bias = nn.Parameter(torch.full((len(shape.tactics),), _INITIAL_TACTICS_BIAS))
        self.paths = nn.Parameter(torch.tensor(_INITIAL_PATHS).repeat(relations, 1))
        self.alike_text = nn.Parameter(torch.tensor([10.0, 2.0, 6.0]))
        self.alike_shown = nn.Parameter(torch.tensor([1.0, 12.0, 6.0]))
        self.alike_label = nn.Parameter(torch.full((HEADS,), 0.5))
        self.smooth = nn.Parameter(torch.full((HEADS,), -6.0))
        self.attention = nn.Parameter(torch.tensor(_INITIAL_ATTENTION).repeat(relations, 1))
        self.paths_by_number = nn.Parameter(torch.zeros(relations, len(PATH_FEATURES)))
        self.attention_by_number = nn.Parameter(torch.zeros(relations, HEADS))
        self.sharper_by_number = nn.Parameter(torch.zeros(HEADS))

    def forward(self, view: View, batch: SourceBatch, nodes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Score techniques for some sources, and tactics for some techniques.

        Args:
            view: The graph.
            batch: The sources.
            nodes: (nodes,), int64: node indices of the techniques.

        Returns:
            (batch, targets), the score of each technique, whose softmax gives probabilities; and (nodes, tactics),
            the logit of each tactic. Both float32.
        """
        h = self.hidden_states(view, batch.rows)
        features = torch.cat([self.dropout(h[nodes]), self.dropout(view.text[nodes])], 1)
        logits = features @ self.tactics.T + self.tactics_bias
        return self._scores(view, batch, h), logits

    def hidden_states(self, view: View, excluded_rows: torch.Tensor | None = None) -> torch.Tensor:
        """h of every node.

        Args:
            view: The graph.
            excluded_rows: (rows,), int64: rows whose edges pass no messages; -1 is ignored.

        Returns:
            (nodes, width), float32.
        """
        edges, types = view.edges, view.types
        if excluded_rows is not None and len(view.rows):
            excluded = torch.zeros(len(view.rows) + 1, dtype=torch.bool, device=edges.device)
            excluded[excluded_rows] = True
            excluded[-1] = False  # where -1, no row, leads to
            keep = ~excluded[view.row_of_edge]
            edges, types = edges[:, keep], types[keep]
        h: torch.Tensor = self.text(self.dropout(view.text)) + self.kind[view.kind]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            h = h + nn.functional.gelu(norm(convolution(self.dropout(h), edges, types)))
        return h

    def source_vectors(self, view: View, batch: SourceBatch, h: torch.Tensor) -> torch.Tensor:
        """z of each source, (batch, width), from the hidden states (nodes, width)."""
        scale = batch.shown.sum(1, keepdim=True).clamp(min=1.0).sqrt()
        mean = batch.shown @ self.dropout(h[view.target_nodes]) / scale
        z = self.from_shown(mean) + self.from_source(self.dropout(h[batch.nodes])) + self.label[batch.labels]
        mixed: torch.Tensor = self.mix(self.dropout(nn.functional.gelu(z)))
        return mixed

    def _scores(self, view: View, batch: SourceBatch, h: torch.Tensor) -> torch.Tensor:
        z = self.source_vectors(view, batch, h)
        scores: torch.Tensor = z @ self.out(self.dropout(h[view.target_nodes])).T / self.shape.width**0.5
        with autocast(view.device, FLOAT32):  # the ridge filter subtracts numbers that are almost equal
            features = torch.stack(_path_features(view, batch))  # (features, batch, targets)
            weights = self.paths[batch.relations] + _log_shown(batch) * self.paths_by_number[batch.relations]
            scores = scores.float() + torch.einsum("pbt,bp->bt", features, weights)
            return scores + self._attention(view, batch)

    def _attention(self, view: View, batch: SourceBatch) -> torch.Tensor:
        """(batch, targets): log of the attention-weighted frequency of a target in other rows, summed over heads.

        A source attends to all other rows of its relation by similar texts, similar techniques and an equal label.
        """
        if not len(view.rows):
            return torch.zeros_like(batch.shown)
        excluded = view.row_relation[None] != batch.relations[:, None]  # (batch, rows)
        excluded = excluded | (torch.arange(len(view.rows), device=excluded.device)[None] == batch.rows[:, None])
        shown = nn.functional.normalize(batch.shown, dim=1) @ nn.functional.normalize(view.known, dim=1).T
        text = view.text[batch.nodes] @ view.text[view.row_source].T
        label = (view.row_label[None] == batch.labels[:, None]).float()
        values = view.known / view.known.sum(1, keepdim=True).clamp(min=1.0).sqrt()  # (rows, targets)
        log_shown = _log_shown(batch)
        weights = self.attention[batch.relations] + log_shown * self.attention_by_number[batch.relations]
        scores = torch.zeros_like(batch.shown)
        for i in range(HEADS):
            sharpness = self.alike_shown[i] * torch.exp(self.sharper_by_number[i] * log_shown)
            similarity = self.alike_text[i] * text + sharpness * shown + self.alike_label[i] * label
            attention = similarity.masked_fill(excluded, -1e4).softmax(1) * ~excluded
            scores = scores + weights[:, i : i + 1] * torch.log(attention @ values + torch.exp(self.smooth[i]))
        return scores

    @torch.no_grad()
    def embeddings(self, view: View) -> torch.Tensor:
        """Embeddings of all nodes: z of a source that has a row, `out(h)` of every other node.

        Returns:
            (nodes, width), float32, each of length 1.
        """
        h = self.hidden_states(view)
        vectors: torch.Tensor = self.out(h)
        if len(view.rows):
            vectors[view.row_source] = self.source_vectors(view, make_batch(view, self.shape, view.rows), h)
        return nn.functional.normalize(vectors, dim=1)


def _path_features(view: View, batch: SourceBatch) -> list[torch.Tensor]:
    """`PATH_FEATURES`, each (batch, targets)."""
    shown, own = batch.shown, _own_targets(view, batch)
    root = shown.sum(1, keepdim=True).clamp(min=1.0).sqrt()
    counts = view.counts[batch.relations] - own  # (batch, targets), of the other rows
    length = (counts + _EPSILON).clamp(min=0.5).sqrt()
    weighted = shown / length
    co_occurrence = _times_matrix_of(batch.relations, view.co_occurrence, weighted)
    cosine = co_occurrence - (weighted.sum(1, keepdim=True) - weighted) * own
    counts_by_label = view.counts_by_label[batch.labels] - own
    share = (counts_by_label + 0.02 * counts + 0.3) / counts_by_label.sum(1, keepdim=True).clamp(min=1.0)
    texts = view.text[view.target_nodes]
    return [
        _ridge_filter(view, shown, own, batch.relations),
        cosine / length / root,
        torch.log((counts + 1.0) / counts.sum(1, keepdim=True).clamp(min=1.0)),
        torch.log(share),
        view.text[batch.nodes] @ texts.T,
        nn.functional.normalize(shown @ texts, dim=1) @ texts.T,
        (shown @ view.siblings > 0).float(),
        (shown @ view.parents > 0).float(),
        (shown @ view.parents.T > 0).float(),
    ]


def _ridge_filter(view: View, shown: torch.Tensor, own: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
    """(batch, targets): each technique predicted from those shown, by ridge regression over all rows but its own.

    The weights are those of EASE (Steck 2019), -P[i, j] / P[j, j] with P the inverse of the co-occurrences plus a
    ridge. A row is removed from P by the Sherman-Morrison formula.
    """
    own_filtered = _times_matrix_of(relations, view.gram_inverse, own)
    rest = (1.0 - (own_filtered * own).sum(1, keepdim=True)).clamp(min=_EPSILON)
    filtered = _times_matrix_of(relations, view.gram_inverse, shown)
    filtered = filtered + (shown * own_filtered).sum(1, keepdim=True) * own_filtered / rest
    diagonal = view.gram_inverse.diagonal(dim1=1, dim2=2)[relations] + own_filtered * own_filtered / rest
    return -filtered / diagonal.clamp(min=1e-9)


def _log_shown(batch: SourceBatch) -> torch.Tensor:
    """(batch, 1): log of the ratio of the number of techniques shown to the usual number."""
    return torch.log((batch.shown.sum(1, keepdim=True) + 1.0) / _USUAL_SHOWN)


def _own_targets(view: View, batch: SourceBatch) -> torch.Tensor:
    """(batch, targets): the techniques of each source's own row in the view; 0 for a source without one."""
    if not len(view.rows):
        return torch.zeros_like(batch.shown)
    return view.known[batch.rows.clamp(min=0)] * (batch.rows >= 0).float()[:, None]


def _times_matrix_of(relations: torch.Tensor, matrices: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Each vector times the matrix of its relation: (batch,), (relations, n, n) and (batch, n) to (batch, n)."""
    if len(matrices) == 1:
        return vectors @ matrices[0]
    products = torch.zeros_like(vectors)
    for i in range(len(matrices)):
        products = torch.where((relations == i)[:, None], vectors @ matrices[i], products)
    return products


def keep_tactics(network: ThreatGnn, tactics: Sequence[str]) -> None:
    """Drop all tactics but some, in place.

    Args:
        network: The network.
        tactics: Those to keep, in the order that they have.
    """
    known = network.shape.tactics
    if len(tactics) == len(known):
        return
    columns = [known.index(name) for name in tactics]
    network.shape = msgspec.structs.replace(network.shape, tactics=tuple(tactics))
    network.tactics = nn.Parameter(network.tactics.detach()[columns].clone())
    network.tactics_bias = nn.Parameter(network.tactics_bias.detach()[columns].clone())


def expand(parent: ThreatGnn, child: ThreatGnn) -> None:
    """Copy the parameters of a parent into a child whose tensors are as large or larger.

    New rows and columns start at 0; path weights, attention and the biases of tactics at their initial values.
    """
    parameters = dict(parent.named_parameters())
    initial: dict[str, tuple[float, ...] | float] = {
        "paths": _INITIAL_PATHS,
        "attention": _INITIAL_ATTENTION,
        "tactics_bias": _INITIAL_TACTICS_BIAS,
    }
    with torch.no_grad():
        for name, tensor in child.named_parameters():
            old = parameters[name]
            tensor.copy_(torch.tensor(initial.get(name, 0.0)))
            tensor[tuple(slice(0, size) for size in old.shape)] = old
