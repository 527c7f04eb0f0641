"""`embeddings.png`: the embeddings of the nodes in two dimensions, with the names of the clusters of techniques."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trainers.reporting.plots import picture, plot_label

PICTURE = "embeddings.png"
MAX_CLUSTERS = 8
CLUSTER_TECHNIQUES = 10
"""A cluster has on average at least this many techniques with tactics."""
_MARKERS = "o^s"
_AXES = ("first principal component", "second principal component")


class Cluster(NamedTuple):
    """Techniques that are close to each other on the map, with the most frequent tactic and its share of them."""

    centre: tuple[float, float]
    tactic: str
    share: float
    techniques: int


def plot_embeddings(
    vectors: npt.NDArray[np.float32], kinds: Sequence[str], tactics: Sequence[Sequence[str]], folder: Path
) -> None:
    """Draw the first two principal components of the embeddings, coloured by the kind of the node.

    Args:
        vectors: (nodes, width).
        kinds: Of each node.
        tactics: Of each node; none where they are not known.
        folder: Where `embeddings.png` is written.
    """
    points, shares = principal_components(vectors)
    with picture(folder / PICTURE, 9.0, 7.0) as figure:
        axis = figure.subplots()
        for i, kind in enumerate(sorted(set(kinds))):
            nodes = [node for node, other in enumerate(kinds) if other == kind]
            axis.scatter(
                points[nodes, 0], points[nodes, 1], s=7, alpha=0.6, color=f"C{i % 10}",
                marker=_MARKERS[i // 10 % 3], label=f"{plot_label(kind)} ({len(nodes)})",
            )  # fmt: skip
        for cluster in clusters(points, tactics):
            axis.annotate(
                f"{plot_label(cluster.tactic)}\n{cluster.share:.0%} of {cluster.techniques} techniques",
                cluster.centre, fontsize=8, ha="center", va="center", zorder=3,
                bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": "0.6", "alpha": 0.85},
            )  # fmt: skip
        xlabel, ylabel = (
            f"{name} ({share:.0%} of the variance)" for name, share in zip(_AXES, shares, strict=True)
        )
        axis.set(title="embeddings of the nodes: principal component analysis", xlabel=xlabel, ylabel=ylabel)
        if kinds:
            axis.legend(fontsize=8)


def clusters(points: npt.NDArray[np.float64], tactics: Sequence[Sequence[str]]) -> list[Cluster]:
    """The clusters of the techniques on the map: k-means on two principal components.

    Args:
        points: (nodes, 2).
        tactics: Of each node; a node without any belongs to no cluster.

    Returns:
        For each tactic that is the most frequent one of a cluster, the cluster with most of its techniques, at most
        `MAX_CLUSTERS`; none with fewer than two times `CLUSTER_TECHNIQUES` techniques.
    """
    techniques = np.array([node for node, names in enumerate(tactics) if names], dtype=np.int64)
    count = min(MAX_CLUSTERS, len(techniques) // CLUSTER_TECHNIQUES, len(np.unique(points[techniques], axis=0)))
    if count < 2:
        return []
    from sklearn.cluster import KMeans

    fitted = KMeans(count, n_init=10, random_state=0).fit(points[techniques])
    found = []
    for number, (x, y) in enumerate(fitted.cluster_centers_):
        nodes = techniques[fitted.labels_ == number]
        names = Counter(name for node in nodes for name in set(tactics[node]))
        tactic, most = min(names.items(), key=lambda item: (-item[1], item[0]))
        found.append(Cluster((float(x), float(y)), tactic, most / len(nodes), len(nodes)))
    found.sort(key=lambda cluster: (-cluster.share * cluster.techniques, cluster.tactic, cluster.centre))
    named: dict[str, Cluster] = {}
    for cluster in found:
        named.setdefault(cluster.tactic, cluster)
    return list(named.values())


def principal_components(
    vectors: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float64], tuple[float, float]]:
    """The first two principal components of some vectors.

    Returns:
        The coordinates, (nodes, 2), and the share of the variance that each component explains.
    """
    points = np.zeros((len(vectors), 2))
    if len(vectors) < 2:
        return points, (0.0, 0.0)
    centred = vectors.astype(np.float64) - vectors.mean(0, keepdims=True)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.where(axes[:2].sum(1, keepdims=True) < 0, -1.0, 1.0)  # both directions are right: take one
    points[:, : len(axes)] = centred @ axes.T
    shares = [*(sizes[:2] ** 2 / max(float((sizes**2).sum()), np.finfo(float).tiny)), 0.0, 0.0]
    return points, (float(shares[0]), float(shares[1]))
