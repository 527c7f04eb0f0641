"""What a version makes of single nodes and links: losses, and the place of their ends in its graph.

    link ──> probability of its technique among those that its source does not show ──> loss
    technique ──> probabilities of its tactics ──> loss
    degrees of the ends in the graph, edge type ──> projection

There is no embedding of a link, and one of a node that is new has nothing to rest on. So the inputs of this model
are degrees and types: links that come at other places of the graph than before, or are of other kinds.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import torch

from schemas.journal import ExampleScore, Link, Node
from schemas.scores import TACTICS, TECHNIQUES
from trainers.core.dataset import OffsetExample
from trainers.core.losses import DIGITS, log_loss, multi_label_loss
from trainers.core.probabilities import softmax
from trainers.models.gnn.graph import LinkRow, is_predicted, row_label
from trainers.models.gnn.predict import LinkPredictor
from trainers.models.gnn.predict import load as load_predictor
from trainers.models.gnn.scoring import score_rows, tactic_probabilities
from trainers.models.gnn.view import with_unseen_nodes

TYPE_NUMBERS = 4
"""Numbers of a projection that stand for the type of an edge."""


class GraphScorer:
    """A version in memory; see `trainers.models.scorer.Scorer`.

    Args:
        predictor: The version.
    """

    def __init__(self, predictor: LinkPredictor) -> None:
        self._predictor = predictor
        self._index = predictor.view.graph.index
        self._shown = {(row.source, row.label): row.targets for row in predictor.view.rows}
        self._degrees = np.bincount(predictor.view.graph.edges.ravel(), minlength=len(self._index))

    def score(self, example: OffsetExample) -> ExampleScore | None:
        """The loss of a link or of a technique, where the version knows its ends, and the projection."""
        offset, content = example
        if content.link:
            link, losses = content.link, self._link_losses(content.link)
            name, ends = f"{link.source_kind}:{link.relation}:{link.target_kind}", (link.source, link.target)
        elif content.node:
            losses, name = self._node_losses(content.node, content.labels), content.node.kind
            ends = (content.node.id, content.node.id)
        else:
            return None
        degrees = [round(math.log1p(self._degree(end)), DIGITS) for end in ends]
        return ExampleScore(offset=offset, losses=losses, projection=(*degrees, *type_numbers(name)))

    def _degree(self, node: str) -> int:
        index = self._index.get(node)
        return 0 if index is None else int(self._degrees[index])

    def _link_losses(self, link: Link) -> dict[str, float]:
        """Empty if the version can't rank its technique."""
        network, view, shape = self._predictor.network, self._predictor.view, self._predictor.config.shape
        target, label = self._index.get(link.target), row_label(link)
        if not is_predicted(link) or target not in view.column or label not in shape.labels:
            return {}
        source = self._index.get(link.source)
        if source is None:
            if link.source_kind not in shape.kinds:
                return {}
            source, shown = len(self._index), tuple[int, ...]()
            nodes = [Node(id=link.source, kind=link.source_kind)]
            view = with_unseen_nodes(view, shape, nodes, torch.zeros(1, shape.text))
        else:
            shown = self._shown.get((source, label), ())
        row = LinkRow(source, label, tuple(each for each in shown if each != target))
        scores = score_rows(network, view, [row])[0].astype(np.float64)
        scores[[view.column[each] for each in row.targets]] = -np.inf
        return {TECHNIQUES: log_loss(float(softmax(scores[None])[0, view.column[target]]))}

    def _node_losses(self, node: Node, labels: tuple[str, ...]) -> dict[str, float]:
        """Empty for all but techniques of the graph that have tactics."""
        network, view = self._predictor.network, self._predictor.view
        index, tactics = self._index.get(node.id), network.shape.tactics
        if index not in view.column or not labels or not tactics:
            return {}
        probabilities = tactic_probabilities(network, view, [index])[0].astype(np.float64)
        return {TACTICS: multi_label_loss(probabilities, tactics, labels)}


def type_numbers(name: str) -> tuple[float, ...]:
    """Numbers from -1 to 1 that stand for a name: its hash.

    >>> len(type_numbers("group:uses:technique"))
    4
    """
    digest = hashlib.blake2b(name.encode(), digest_size=TYPE_NUMBERS).digest()
    return tuple(round(byte / 127.5 - 1, DIGITS) for byte in digest)


def load(folder: Path, cache_dir: Path) -> GraphScorer:  # noqa: ARG001  part of the interface
    """Load a version on the CPU; it needs no base model."""
    return GraphScorer(load_predictor(folder))
