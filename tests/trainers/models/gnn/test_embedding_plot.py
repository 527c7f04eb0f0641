"""The map of the graph: its clusters have the names of their tactics, and its axes say what they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from trainers.models.gnn import embedding_plot
from trainers.models.gnn.embedding_plot import CLUSTER_TECHNIQUES, clusters, plot_embeddings, principal_components
from trainers.reporting.plots import picture

PLACES = {"persistence": (-4.0, 0.0), "discovery": (4.0, 1.0)}


def two_groups(size: int) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """Techniques around two places, each with the tactic of its place, some with another one in addition."""
    random = np.random.default_rng(0)
    points = [np.array(place) + random.normal(0, 0.1, 2) for place in PLACES.values() for _ in range(size)]
    tactics = [(name, "stealth") if n % 3 == 0 else (name,) for name in PLACES for n in range(size)]
    return np.stack(points), tactics


def test_a_cluster_has_the_name_of_its_most_frequent_tactic_and_is_where_its_techniques_are() -> None:
    points, tactics = two_groups(CLUSTER_TECHNIQUES)
    points = np.vstack([points, [[100.0, 100.0]]])  # an actor, far away, has no tactics
    found = {cluster.tactic: cluster for cluster in clusters(points, [*tactics, ()])}
    assert found.keys() == PLACES.keys()
    for name, place in PLACES.items():
        assert found[name].centre == pytest.approx(place, abs=0.2)
        assert (found[name].share, found[name].techniques) == (1.0, CLUSTER_TECHNIQUES)


def test_a_tactic_that_dominates_several_clusters_is_named_once_where_most_of_its_techniques_are() -> None:
    points, _ = two_groups(CLUSTER_TECHNIQUES)
    points = np.vstack([points, points[:CLUSTER_TECHNIQUES]])
    (cluster,) = clusters(points, [("stealth",)] * len(points))
    assert cluster.tactic == "stealth"
    assert cluster.centre[0] < 0


def test_few_techniques_have_no_clusters() -> None:
    assert clusters(*two_groups(2)) == []
    assert clusters(np.zeros((0, 2)), []) == []
    assert clusters(np.zeros((50, 2)), [("impact",)] * 50) == []


def test_the_shares_of_the_variance_are_those_of_the_components() -> None:
    vectors = np.array([[3, 0, 0], [-3, 0, 0], [0, 1, 0], [0, -1, 0]], dtype=np.float32)
    points, shares = principal_components(vectors)
    assert shares == pytest.approx((0.9, 0.1))
    assert np.abs(points).max(0) == pytest.approx([3, 1])
    assert principal_components(vectors[:1])[1] == (0.0, 0.0)
    assert principal_components(vectors[:, :1])[1] == pytest.approx((1.0, 0.0))


def test_the_axes_and_the_clusters_are_named_on_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []

    @contextlib.contextmanager
    def remembered(path: Path, width: float, height: float) -> Iterator[Figure]:
        with picture(path, width, height) as figure:
            drawn.append(figure)
            yield figure

    monkeypatch.setattr(embedding_plot, "picture", remembered)
    points, tactics = two_groups(CLUSTER_TECHNIQUES)
    plot_embeddings(points.astype(np.float32), ["technique"] * len(points), tactics, tmp_path)
    axis = drawn[0].axes[0]
    assert axis.get_xlabel().startswith("first principal component (")
    assert axis.get_ylabel().endswith("% of the variance)")
    assert {text.get_text().split("\n")[0] for text in axis.texts} == set(PLACES)
    assert (tmp_path / "embeddings.png").stat().st_size > 1_000
