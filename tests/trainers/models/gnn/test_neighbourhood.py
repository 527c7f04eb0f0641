"""Large graphs are sampled."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from tests.trainers.journals import graph
from tests.trainers.models.gnn.graphs import CONFIG, small_graph, trained
from trainers.models.gnn.graph import build_graph, induced_subgraph
from trainers.models.gnn.neighbourhood import sample_nodes


def test_a_sample_has_its_seeds_first_and_bounded_neighbours() -> None:
    known = build_graph(graph(240))
    taken = sample_nodes(known, [5, 2], (2, 1), np.random.default_rng(0))
    assert taken[:2].tolist() == [5, 2]
    assert 2 < len(taken) <= 2 * 3 * 2
    assert len(set(taken.tolist())) == len(taken)
    part = induced_subgraph(known, taken)
    assert [node.id for node in part.nodes[:2]] == [known.nodes[5].id, known.nodes[2].id]
    assert part.edges.max() < len(taken)


def test_a_graph_over_the_limit_is_sampled_and_still_learned(models_cache: Path, tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, max_nodes=10, neighbours=3, epochs=15)
    report = trained(models_cache, tmp_path / "v", small_graph(), config=config)
    assert (
        report.candidate["techniques"]["holdout"].metrics["ndcg_at_20"]
        > report.trivial_baseline["techniques"]["holdout"].metrics["ndcg_at_20"]
    )
    again = trained(models_cache, tmp_path / "w", small_graph(), config=config)
    assert [p.loss for p in again.history.points] == [p.loss for p in report.history.points]
