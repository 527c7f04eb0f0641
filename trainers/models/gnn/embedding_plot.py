"""`embeddings.png`: the embeddings of the nodes in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainers.reporting.plots import picture, plot_label

PICTURE = "embeddings.png"
_MARKERS = "o^s"


def plot_embeddings(vectors: npt.NDArray[np.float32], kinds: Sequence[str], folder: Path) -> None:
    """Draw the first two principal components of the embeddings, coloured by the kind of the node.

    Args:
        vectors: (nodes, width).
        kinds: Of each node.
        folder: Where `embeddings.png` is written.
    """
    points = _principal_components(vectors)
    with picture(folder / PICTURE, 9.0, 7.0) as figure:
        axis = figure.subplots()
        for i, kind in enumerate(sorted(set(kinds))):
            nodes = [node for node, other in enumerate(kinds) if other == kind]
            axis.scatter(
                points[nodes, 0], points[nodes, -1], s=7, alpha=0.6, color=f"C{i % 10}",
                marker=_MARKERS[i // 10 % 3], label=f"{plot_label(kind)} ({len(nodes)})",
            )  # fmt: skip
        axis.set(title="embeddings of the nodes, first two principal components", xlabel="first", ylabel="second")
        if kinds:
            axis.legend(fontsize=8)


def _principal_components(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """(nodes, at most 2)."""
    centred = vectors.astype(np.float64) - (vectors.mean(0, keepdims=True) if len(vectors) else 0.0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2] if len(vectors) > 1 else np.eye(2, vectors.shape[1])
    axes = axes * np.where(axes.sum(1, keepdims=True) < 0, -1.0, 1.0)  # both directions are right: always take one
    points: npt.NDArray[np.float64] = centred @ axes.T
    return points
