"""What `gnn-threat` says: which techniques probably come next, with evidence, and which nodes are similar."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from serving.errors import NotFound
from serving.predictors import LoadedVersion
from trainers.store.registry import NODES

if TYPE_CHECKING:
    from trainers.models.gnn.predict import LinkPredictor, RankedTechnique, UnseenSource

MAX_EVIDENCE = 5
EMBEDDINGS = "embeddings.safetensors"
Floats = npt.NDArray[np.float32]


class Known(msgspec.Struct, frozen=True):
    """The ids of techniques: those that the graph has, and those that it does not have."""

    seen: tuple[str, ...]
    unknown: tuple[str, ...]


def seen_of(predictor: LinkPredictor, seen: Sequence[str], actor: str | None) -> Known:
    """The techniques of a request, and those of the actor that it names.

    Raises:
        NotFound: The graph has no such actor.
    """
    techniques = set(predictor.technique_ids)
    used: list[str] = []
    if actor:
        nodes = predictor.view.graph.nodes
        at = predictor.view.graph.index.get(actor)
        if at is None:
            named = [i for i, node in enumerate(nodes) if node.name.casefold() == actor.casefold()]
            if not named:
                raise NotFound(
                    f"the graph has no node {actor!r}: give an id such as G0016, or a name as ATT&CK has it"
                )
            at = named[0]
        sources, targets = predictor.view.graph.edges
        used = sorted({nodes[j].id for j in targets[sources == at]} & techniques)
    asked = dict.fromkeys((*seen, *used))
    return Known(tuple(i for i in asked if i in techniques), tuple(i for i in asked if i not in techniques))


def source(predictor: LinkPredictor, kind: str, seen: Sequence[str]) -> UnseenSource:
    """The query for techniques that were seen.

    Raises:
        NotFound: The version does not know the kind.
    """
    from trainers.models.gnn.predict import UnseenSource  # it imports torch

    kinds = sorted(label.partition(":")[2] for label in predictor.config.shape.labels if label.startswith("uses:"))
    if kind not in kinds:
        raise NotFound(f"this version knows no sources of kind {kind!r}; it knows {', '.join(kinds) or 'none'}")
    return UnseenSource(kind=kind, shown=tuple(seen))


def described(
    predictor: LinkPredictor, ranked: Sequence[RankedTechnique], seen: Sequence[str]
) -> list[dict[str, Any]]:
    """The techniques with their names, and the sources that use each beside most of what was seen."""
    graph = predictor.view.graph
    index = graph.index
    sources, targets = graph.edges
    seen_nodes = np.array([index[i] for i in seen], dtype=np.int64)
    shared = np.bincount(sources[np.isin(targets, seen_nodes)], minlength=len(graph.nodes))
    found = []
    for technique in ranked:
        users = np.unique(sources[targets == index[technique.id]])
        users = users[shared[users] > 0]
        best = sorted(users.tolist(), key=lambda i: (-int(shared[i]), graph.nodes[i].id))[:MAX_EVIDENCE]
        evidence = [
            f"{graph.nodes[i].name or graph.nodes[i].id} ({graph.nodes[i].id}): {shared[i]} of {len(seen)} seen"
            for i in best
        ]
        found.append(
            {
                "id": technique.id,
                "name": graph.nodes[index[technique.id]].name,
                "probability": round(technique.probability, 6),
                "evidence": evidence,
            }
        )
    return found


def similar(version: LoadedVersion, node: str, k: int) -> list[dict[str, Any]]:
    """The nodes whose embeddings point in the most similar direction.

    Raises:
        NotFound: The graph of the version has no such node.
    """
    nodes, vectors = _embeddings(version.folder)
    at = next((i for i, one in enumerate(nodes) if one["id"] == node), None)
    if at is None:
        raise NotFound(f"the graph of {version.version} has no node {node!r}: give an id such as T1059.001")
    scores = vectors @ vectors[at]
    scores[at] = -np.inf
    best = np.argsort(-scores, kind="stable")[: min(k, len(nodes) - 1)]
    return [
        {
            "id": nodes[i]["id"],
            "kind": nodes[i]["kind"],
            "name": nodes[i].get("name", ""),
            "score": round(float(scores[i]), 6),
        }
        for i in best.tolist()
    ]


@lru_cache(maxsize=2)
def _embeddings(folder: Path) -> tuple[list[dict[str, str]], Floats]:
    """The nodes of a version and their embeddings, of unit length."""
    nodes = msgspec.json.decode((folder / NODES).read_bytes(), type=list[dict[str, str]])
    vectors = load_file(folder / EMBEDDINGS)["embeddings"].astype(np.float32)
    return nodes, vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
