"""Answers of a version: techniques of sources that it has not seen.

    load(folder) ──> LinkPredictor ── predict(sources) ──> techniques of each, best first, with probabilities

Reads only the version's folder; imports no training code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch

from schemas.errors import BadConfiguration
from schemas.journal import Node
from trainers.core.metrics.ranking import Matrix
from trainers.models.gnn.graph import LinkRow
from trainers.models.gnn.network import ThreatGnn
from trainers.models.gnn.saving import VersionConfig, load_config, load_network, load_view
from trainers.models.gnn.scoring import score_rows
from trainers.models.gnn.view import View, with_unseen_nodes


class UnseenSource(msgspec.Struct, frozen=True, kw_only=True):
    """A source that need not be in the graph of the version.

    Attributes:
        kind: `group`, `malware`, `tool`, `campaign`, ...
        shown: Ids of the techniques that are known of it; ids that the graph does not have are ignored.
        relation: Between the source and the techniques.
        text_vector: (dim,), float32: its name and description as the base model embeds them
            (`trainers.bases.text_embedding.embed_texts`); None for none.
    """

    kind: str
    shown: tuple[str, ...] = ()
    relation: str = "uses"
    text_vector: torch.Tensor | None = None

    @property
    def label(self) -> str:
        """The label of its row, such as `uses:group`."""
        return f"{self.relation}:{self.kind}"


class RankedTechnique(msgspec.Struct, frozen=True):
    """A technique and its probability of being the next technique of the source, 0 to 1."""

    id: str
    probability: float


class LinkPredictor(msgspec.Struct, frozen=True):
    """A version in memory.

    Attributes:
        network: On the CPU, in evaluation mode.
        view: Of the version's graph.
        config: `config.json` of the version.
    """

    network: ThreatGnn
    view: View
    config: VersionConfig

    @property
    def technique_ids(self) -> list[str]:
        """Ids of all techniques, in the order of the columns of `scores`."""
        return [self.view.graph.nodes[node].id for node in self.view.targets]

    def predict(self, batch: Sequence[UnseenSource], k: int = 20) -> list[tuple[RankedTechnique, ...]]:
        """Rank the techniques of some sources.

        Args:
            batch: The sources; each is scored independently of the others.
            k: The most techniques to return for each, at least 1.

        Returns:
            For each source its most probable techniques without those shown, best first. The probabilities of all
            techniques that are not shown add up to 1. Empty for an empty batch.

        Raises:
            BadConfiguration: The version does not know the kind or the relation of a source.
        """
        ids = self.technique_ids
        return [
            _best(torch.from_numpy(scores), ids, set(source.shown), k)
            for scores, source in zip(self.scores(batch), batch, strict=True)
        ]

    def techniques(
        self,
        kind: str,
        shown: Iterable[str],
        k: int = 20,
        relation: str = "uses",
        text_vector: torch.Tensor | None = None,
    ) -> list[tuple[str, float]]:
        """Rank the techniques of one source; see `UnseenSource` and `predict`.

        Returns:
            Id and probability of its most probable techniques, best first.

        Raises:
            BadConfiguration: The version does not know the kind or the relation.
        """
        source = UnseenSource(kind=kind, shown=tuple(shown), relation=relation, text_vector=text_vector)
        return [(technique.id, technique.probability) for technique in self.predict([source], k)[0]]

    def scores(self, batch: Sequence[UnseenSource]) -> Matrix:
        """Score every technique for some sources.

        Args:
            batch: The sources.

        Returns:
            (sources, techniques), float32, in the order of `technique_ids`; higher is more likely.

        Raises:
            BadConfiguration: The version does not know the kind or the relation of a source.
        """
        shape, index = self.config.shape, self.view.graph.index
        for source in batch:
            if source.label not in shape.labels:
                raise BadConfiguration(
                    f"this version knows no {source.label!r}: labels are {', '.join(shape.labels)}"
                )
        zero = torch.zeros(shape.text)
        texts = [zero if source.text_vector is None else source.text_vector for source in batch]
        nodes = [Node(id="", kind=source.kind) for source in batch]
        view = with_unseen_nodes(self.view, shape, nodes, torch.stack(texts) if texts else zero[None][:0])
        rows = [
            LinkRow(
                len(index) + i,
                source.label,
                tuple(index[name] for name in sorted(set(source.shown)) if index.get(name) in view.column),
            )
            for i, source in enumerate(batch)
        ]
        return score_rows(self.network, view, rows)


def load(folder: Path | str) -> LinkPredictor:
    """Load a version on the CPU.

    Args:
        folder: Of the version, with the files of `trainers.models.gnn.saving`.
    """
    folder = Path(folder)
    return LinkPredictor(load_network(folder), load_view(folder), load_config(folder))


def _best(scores: torch.Tensor, ids: Sequence[str], shown: set[str], k: int) -> tuple[RankedTechnique, ...]:
    scores = scores.clone()
    scores[np.array([name in shown for name in ids], dtype=np.bool_)] = -torch.inf
    best = scores.softmax(0).topk(min(k, len(ids)))
    pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    return tuple(RankedTechnique(ids[i], p) for p, i in pairs if p > 0)
