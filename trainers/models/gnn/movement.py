"""How far the embedding space moved from a version to the next: neighbours that were kept, and distance.

A search for similar nodes depends on neighbours alone, so turning the whole space moves nothing there. So the
distance too is measured after the best rotation (orthogonal Procrustes problem, Schönemann 1966).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch
from safetensors.torch import load_file

from schemas.journal import key_hash
from trainers.models.gnn.saving import EMBEDDINGS, load_node_ids

NEIGHBOURS = 10
MAX_NODES = 2_000
"""The neighbours of so many nodes are compared, those with the least hashes of their ids."""
_CHUNK = 500


class Movement(msgspec.Struct, frozen=True):
    """The embeddings of a version beside those of its parent.

    Attributes:
        nodes: Nodes that both have.
        neighbours_kept: Share of the ten nearest neighbours of a node that it still has, 0 to 1, on average; among
            the nodes that both have.
        distance: Mean distance of the two embeddings of a node after the rotation, 0 to 2.
    """

    nodes: int
    neighbours_kept: float
    distance: float


def movement_from(parent: Path, ids: Sequence[str], embeddings: torch.Tensor) -> Movement | None:
    """How far the embeddings moved from those of a version.

    Args:
        parent: Folder of that version.
        ids: Of the nodes.
        embeddings: (nodes, width), float32, each of length 1.

    Returns:
        None if fewer than two nodes are in both.
    """
    return movement(load_node_ids(parent), load_file(parent / EMBEDDINGS)["embeddings"], ids, embeddings)


def movement(
    ids_before: Sequence[str], before: torch.Tensor, ids_after: Sequence[str], after: torch.Tensor
) -> Movement | None:
    """How far embeddings moved; see `movement_from`."""
    row_before = {name: row for row, name in enumerate(ids_before)}
    row_after = {name: row for row, name in enumerate(ids_after)}
    common = sorted(row_before.keys() & row_after.keys(), key=lambda name: (key_hash(name), name))
    if len(common) < 2:
        return None
    old = before[[row_before[name] for name in common]].double()
    new = after[[row_after[name] for name in common]].double()
    left, _, right = torch.linalg.svd(old.T @ new)
    distances = (old @ (left @ right) - new).norm(dim=1)
    return Movement(
        nodes=len(common),
        neighbours_kept=round(_neighbours_kept(old, new), 4),
        distance=round(float(distances.mean()), 4),
    )


def _neighbours_kept(old: torch.Tensor, new: torch.Tensor) -> float:
    count = min(NEIGHBOURS, len(old) - 1)
    compared = min(len(old), MAX_NODES)
    kept = 0
    for start in range(0, compared, _CHUNK):
        rows = torch.arange(start, min(start + _CHUNK, compared))
        found = []
        for vectors in (old, new):
            similar = vectors[rows] @ vectors.T
            similar[torch.arange(len(rows)), rows] = -torch.inf
            found.append(similar.topk(count, dim=1).indices)
        kept += int((found[0][:, :, None] == found[1][:, None, :]).sum())
    return kept / (compared * count)
