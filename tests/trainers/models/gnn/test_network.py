"""The network: which links count, what depends on the number of techniques shown, and how a child is expanded."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.trainers.journals import graph, later
from tests.trainers.models.gnn.graphs import small_graph, trained, with_link
from trainers.models.gnn.graph import Graph
from trainers.models.gnn.network import ThreatGnn, expand
from trainers.models.gnn.predict import load
from trainers.models.gnn.saving import GRAPH
from trainers.models.gnn.scoring import score_rows
from trainers.models.gnn.view import View


def test_the_own_links_of_a_source_pass_no_messages_while_it_is_scored(models_cache: Path, tmp_path: Path) -> None:
    trained(models_cache, tmp_path / "v", small_graph())
    model = load(tmp_path / "v")
    row = model.view.rows[3]
    cut = msgspec.structs.replace(row, targets=row.targets[:1])
    whole = score_rows(model.network, model.view, [cut])
    ends = model.view.graph.edges
    keep = (ends[0] != row.source) | np.isin(ends[1], row.targets[:1])
    bare = Graph(model.view.graph.nodes, ends[:, keep], model.view.graph.types[keep], model.view.graph.type_names)
    texts = load_file(tmp_path / "v" / GRAPH)["texts"]
    without = View(bare, texts, model.config.shape, torch.device("cpu"))
    np.testing.assert_allclose(score_rows(model.network, without, [cut]), whole, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["paths_by_number", "attention_by_number", "sharper_by_number"])
def test_path_weights_depend_on_the_number_of_techniques_shown(
    models_cache: Path, tmp_path: Path, name: str
) -> None:
    trained(models_cache, tmp_path / "v", small_graph())
    model = load(tmp_path / "v")
    row = model.view.rows[3]
    rows = [msgspec.structs.replace(row, targets=model.view.targets[:shown]) for shown in (2, 9)]
    before = score_rows(model.network, model.view, rows)
    weights = getattr(model.network, name)
    assert weights.any(), "it was learned"
    with torch.no_grad():
        weights += 0.5
    few, usual = np.abs(score_rows(model.network, model.view, rows) - before).max(1)
    assert few > 1e-3
    assert usual < 1e-5, "the number at which the weights are not adjusted"


def test_a_child_is_expanded_by_new_relations_kinds_and_labels_and_scores_old_sources_like_its_parent(
    models_cache: Path, tmp_path: Path
) -> None:
    trained(models_cache, tmp_path / "first", small_graph())
    before = load(tmp_path / "first")
    journal = graph(240)
    unknown = [
        with_link(one, source=f"M{n % 5}", source_kind="mitigation", relation="mitigates")
        for n, one in enumerate(graph(80, 240))
    ]
    report = trained(models_cache, tmp_path / "second", later(journal, unknown), tmp_path / "first")
    after = load(tmp_path / "second")
    assert after.config.shape.labels == ("uses:group", "mitigates:mitigation")
    assert after.config.shape.kinds[: len(before.config.shape.kinds)] == before.config.shape.kinds
    assert report.labels[: len(before.config.shape.tactics)] == before.config.shape.tactics
    network = ThreatGnn(after.config.shape)
    expand(before.network, network)
    texts = load_file(tmp_path / "first" / GRAPH)["texts"]
    view = View(before.view.graph, texts, after.config.shape, torch.device("cpu"))
    old = score_rows(before.network, before.view, before.view.rows)
    np.testing.assert_allclose(score_rows(network, view, before.view.rows), old, rtol=1e-4, atol=1e-4)
