"""Versions of the graph model: held-out links, hidden techniques, tactics, texts and embeddings."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from schemas.errors import BadData
from schemas.journal import held_out
from tests.trainers.journals import graph, later
from tests.trainers.models.gnn.graphs import CONFIG, small_graph, trained
from tests.trainers.samples import LABELS
from trainers.core.dataset import split
from trainers.models.gnn import text_features
from trainers.models.gnn.embedding_plot import PICTURE
from trainers.models.gnn.predict import load
from trainers.models.gnn.saving import EMBEDDINGS, NODES


def test_a_held_out_link_is_no_edge_under_any_key(models_cache: Path, tmp_path: Path) -> None:
    journal = graph(240)
    hidden = next(one for one in journal if one.link and held_out(one))
    doubles = (msgspec.structs.replace(hidden, key=f"link:again-{n}") for n in range(100))
    double = next(one for one in doubles if not held_out(one))
    trained(models_cache, tmp_path / "v", split([*journal, double], 10_000, 17))
    known = load(tmp_path / "v").view.graph
    names = [node.id for node in known.nodes]
    edges = {(names[a], names[b]) for a, b in known.edges.T.tolist()}
    judged = {(one.link.source, one.link.target) for one in journal if one.link and held_out(one)}
    assert judged
    assert not judged & edges


@pytest.mark.parametrize("nodes", [1, 24, 64], ids=["a single technique", "techniques", "techniques and groups"])
def test_a_graph_without_relationships_is_a_clear_error(models_cache: Path, tmp_path: Path, nodes: int) -> None:
    journal = [one for one in graph(240)[:nodes] if not held_out(one)]
    revoked = [msgspec.structs.replace(one, retracted=True) for one in graph(240) if one.link]
    with pytest.raises(BadData, match=rf"{len(journal)} nodes and no relationship to learn from"):
        trained(models_cache, tmp_path / "v", split([*journal, *revoked], 10_000, 17))


def test_a_technique_gets_a_tactic_even_if_nothing_was_learned_about_it(models_cache: Path, tmp_path: Path) -> None:
    config = msgspec.structs.replace(
        CONFIG, epochs=1, learning_rate=1e-9, path_learning_rate=1e-9, threshold=0.9 / len(LABELS)
    )
    journal = graph(240)
    known = journal[0]
    assert known.node
    more = (
        msgspec.structs.replace(known, key=f"node:T{n}", node=msgspec.structs.replace(known.node, id=f"T{n}"))
        for n in range(2000, 2100)
    )
    data = split([*journal, *filter(held_out, more)], 10_000, 17)
    judged = trained(models_cache, tmp_path / "v", data, config=config).candidate["tactics"]["holdout"]
    assert judged.examples
    assert judged.metrics["micro_f1"] > 0, "unconditioned, every tactic would be too rare to be predicted"


def test_it_finds_hidden_techniques_better_than_popularity(models_cache: Path, tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, epochs=15)
    report = trained(models_cache, tmp_path / "v", small_graph(), config=config)
    ours, floor = report.candidate["techniques"]["holdout"], report.trivial_baseline["techniques"]["holdout"]
    assert ours.metrics["ndcg_at_20"] > floor.metrics["ndcg_at_20"] + 0.05
    assert set(report.baselines) == {"item cosine", "TF-IDF + linear"}


def test_a_child_embeds_only_texts_that_its_parent_did_not(
    models_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(models_cache, tmp_path / "first", small_graph())
    asked: list[str] = []
    embed = text_features.embed_texts

    def watched(base: Path, texts: list[str], *rest: object) -> torch.Tensor:
        asked.extend(texts)
        return embed(base, texts, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(text_features, "embed_texts", watched)
    news = [
        msgspec.structs.replace(one, node=msgspec.structs.replace(one.node, text="a new text"), hash="new")
        for one in graph(0)
        if one.node and one.node.id == "G3"
    ]
    trained(models_cache, tmp_path / "second", later(graph(240), news), tmp_path / "first")
    assert asked == ["group 3. a new text"]


def test_a_tactic_that_no_technique_has_any_more_leaves_the_head_and_the_space_is_compared_with_the_parents(
    models_cache: Path, tmp_path: Path
) -> None:
    first = trained(models_cache, tmp_path / "first", small_graph())
    assert "embedding_movement" not in first.details
    journal, dead = graph(240), LABELS[0]
    news = [
        msgspec.structs.replace(one, labels=(LABELS[1],), hash="new")
        for one in journal
        if one.node and dead in one.labels
    ]
    data = later(journal, news)
    assert dead not in {label for _, one in data.context + data.train for label in one.labels}
    second = trained(models_cache, tmp_path / "second", data, tmp_path / "first")
    assert dead in first.labels
    assert second.labels == tuple(label for label in first.labels if label != dead)
    assert second.details["retired_labels"] == [dead]
    network = load(tmp_path / "second").network
    assert len(network.tactics) == len(network.tactics_bias) == len(network.shape.tactics)
    moved = second.details["embedding_movement"]
    assert moved["nodes"] == 64
    assert 0.2 < moved["neighbours_kept"] <= 1
    assert 0 < moved["distance"] < 1


def test_every_node_has_an_embedding_of_length_1(models_cache: Path, tmp_path: Path) -> None:
    trained(models_cache, tmp_path / "v", small_graph())
    vectors = load_file(tmp_path / "v" / EMBEDDINGS)["embeddings"]
    nodes = msgspec.json.decode((tmp_path / "v" / NODES).read_bytes())
    assert len(vectors) == len(nodes) == 64
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(64))
    assert (tmp_path / "v" / PICTURE).stat().st_size > 1_000
