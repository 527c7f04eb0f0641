"""The graph model: held-out links pass no message, strangers are ranked, networks grow, big graphs are sampled."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from schemas.errors import BadConfiguration, Corrupt
from schemas.journal import Example, Link, held_out
from tests.trainers.lessons import CONFIGS, graph, labels_of, later
from tests.trainers.material import LABELS
from trainers.bases.resolve import resolve
from trainers.core.dataset import Dataset, split
from trainers.core.metrics.ranking import item_cosine, ranked, ranking_scores
from trainers.core.progress import no_progress
from trainers.core.report import Report
from trainers.models.gnn import recipe as gnn
from trainers.models.gnn.config import GnnConfig
from trainers.models.gnn.graph import graph_of, induced, load_export, rows_of, sample

CONFIG = msgspec.convert(msgspec.to_builtins(CONFIGS["gnn-threat"]), GnnConfig)


def trained(
    models_cache: Path, folder: Path, data: Dataset, parent: Path | None = None, config: GnnConfig = CONFIG
) -> Report:
    folder.mkdir()
    labels = labels_of([example for _, example in data.train])
    return gnn.run(data, labels, resolve("tiny", models_cache).folder, parent, config, folder, no_progress)


def world(number: int = 240) -> Dataset:
    return split(graph(number), 10_000, 17)


def renamed(example: Example, **changes: str) -> Example:
    assert example.link
    return msgspec.structs.replace(example, link=msgspec.structs.replace(example.link, **changes))


def test_a_held_out_link_is_no_edge_under_any_key(models_cache: Path, tmp_path: Path) -> None:
    journal = graph(240)
    hidden = next(one for one in journal if one.link and held_out(one))
    doubles = (msgspec.structs.replace(hidden, key=f"link:again-{n}") for n in range(100))
    double = next(one for one in doubles if not held_out(one))
    trained(models_cache, tmp_path / "v", split([*journal, double], 10_000, 17))
    known = gnn.load(tmp_path / "v").view.graph
    names = [node.id for node in known.nodes]
    edges = {(names[a], names[b]) for a, b in known.edges.T.tolist()}
    judged = {(one.link.source, one.link.target) for one in journal if one.link and held_out(one)}
    assert judged
    assert not judged & edges


def test_while_a_source_is_scored_its_own_edges_pass_no_message(models_cache: Path, tmp_path: Path) -> None:
    trained(models_cache, tmp_path / "v", world())
    model = gnn.load(tmp_path / "v")
    row = model.view.rows[3]
    cut = msgspec.structs.replace(row, targets=row.targets[:1])
    whole = gnn.network_scores(model.network, model.view, [cut])
    ends = model.view.graph.edges
    keep = (ends[0] != row.source) | np.isin(ends[1], row.targets[:1])
    bare = gnn.Graph(
        model.view.graph.nodes, ends[:, keep], model.view.graph.types[keep], model.view.graph.type_names
    )
    texts = load_file(tmp_path / "v" / gnn.GRAPH)["texts"]
    without = gnn.View(bare, texts, model.settings.shape, torch.device("cpu"))
    np.testing.assert_allclose(gnn.network_scores(model.network, without, [cut]), whole, rtol=1e-3, atol=1e-3)


def test_a_technique_has_a_tactic_even_where_nothing_was_learnt_of_it(models_cache: Path, tmp_path: Path) -> None:
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
    assert judged.metrics["micro_f1"] > 0, "by itself each would be as rare as it begins, and none be said"


@pytest.mark.parametrize("name", ["paths_by_number", "attention_by_number", "sharper_by_number"])
def test_how_many_techniques_are_shown_decides_how_much_the_paths_count(
    models_cache: Path, tmp_path: Path, name: str
) -> None:
    trained(models_cache, tmp_path / "v", world())
    model = gnn.load(tmp_path / "v")
    row = model.view.rows[3]
    rows = [msgspec.structs.replace(row, targets=model.view.targets[:shown]) for shown in (2, 9)]
    before = gnn.network_scores(model.network, model.view, rows)
    weights = getattr(model.network, name)
    assert weights.any(), "it was learnt"
    with torch.no_grad():
        weights += 0.5
    few, usual = np.abs(gnn.network_scores(model.network, model.view, rows) - before).max(1)
    assert few > 1e-3
    assert usual < 1e-5, "the number about which the weights change"


def test_it_finds_hidden_techniques_that_popularity_does_not(models_cache: Path, tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, epochs=15)
    report = trained(models_cache, tmp_path / "v", world(), config=config)
    ours, floor = report.candidate["techniques"]["holdout"], report.trivial_baseline["techniques"]["holdout"]
    assert ours.metrics["ndcg_at_20"] > floor.metrics["ndcg_at_20"] + 0.05
    assert set(report.baselines) == {"item cosine", "TF-IDF + linear"}


def test_a_source_that_nobody_saw_is_ranked_by_what_is_shown_of_it(models_cache: Path, tmp_path: Path) -> None:
    trained(models_cache, tmp_path / "v", world(), config=msgspec.structs.replace(CONFIG, epochs=15))
    model = gnn.load(tmp_path / "v")
    found = model.techniques("group", shown=["T1000", "T1004", "T1008", "no such"], k=5)
    assert {name for name, _ in found[:3]} == {"T1012", "T1016", "T1020"}
    assert not {"T1000", "T1004", "T1008"} & {name for name, _ in found}
    assert sum(p for _, p in found) <= 1.0 + 1e-6
    with pytest.raises(BadConfiguration, match="knows no 'uses:asset'"):
        model.techniques("asset", shown=["T1000"])


def test_new_relations_kinds_and_labels_grow_a_child_and_a_parent_answers_as_before(
    models_cache: Path, tmp_path: Path
) -> None:
    trained(models_cache, tmp_path / "first", world())
    before = gnn.load(tmp_path / "first")
    journal = graph(240)
    strange = [
        renamed(one, source=f"M{n % 5}", source_kind="mitigation", relation="mitigates")
        for n, one in enumerate(graph(80, 240))
    ]
    report = trained(models_cache, tmp_path / "second", later(journal, strange), tmp_path / "first")
    after = gnn.load(tmp_path / "second")
    assert after.settings.shape.labels == ("uses:group", "mitigates:mitigation")
    assert after.settings.shape.kinds[: len(before.settings.shape.kinds)] == before.settings.shape.kinds
    assert report.labels[: len(before.settings.shape.tactics)] == before.settings.shape.tactics
    network = gnn.ThreatGnn(after.settings.shape)
    gnn.grown(before.network, network)
    texts = load_file(tmp_path / "first" / gnn.GRAPH)["texts"]
    view = gnn.View(before.view.graph, texts, after.settings.shape, torch.device("cpu"))
    old = gnn.network_scores(before.network, before.view, before.view.rows)
    np.testing.assert_allclose(gnn.network_scores(network, view, before.view.rows), old, rtol=1e-4, atol=1e-4)


def test_a_child_embeds_only_texts_that_its_parent_did_not(
    models_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(models_cache, tmp_path / "first", world())
    asked: list[str] = []
    embed = gnn.embed_texts

    def watched(base: Path, texts: list[str], *rest: object) -> torch.Tensor:
        asked.extend(texts)
        return embed(base, texts, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(gnn, "embed_texts", watched)
    news = [
        msgspec.structs.replace(one, node=msgspec.structs.replace(one.node, text="a new text"), hash="new")
        for one in graph(0)
        if one.node and one.node.id == "G3"
    ]
    trained(models_cache, tmp_path / "second", later(graph(240), news), tmp_path / "first")
    assert asked == ["group 3. a new text"]


def test_every_node_has_an_embedding_of_length_1(models_cache: Path, tmp_path: Path) -> None:
    trained(models_cache, tmp_path / "v", world())
    vectors = load_file(tmp_path / "v" / gnn.EMBEDDINGS)["embeddings"]
    nodes = msgspec.json.decode((tmp_path / "v" / gnn.NODES).read_bytes())
    assert len(vectors) == len(nodes) == 64
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(64))
    assert (tmp_path / "v" / gnn.PICTURE).stat().st_size > 1_000


def test_a_graph_beyond_the_limit_is_sampled_and_still_learnt(models_cache: Path, tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, max_nodes=10, neighbours=3, epochs=15)
    report = trained(models_cache, tmp_path / "v", world(), config=config)
    assert (
        report.candidate["techniques"]["holdout"].metrics["ndcg_at_20"]
        > report.trivial_baseline["techniques"]["holdout"].metrics["ndcg_at_20"]
    )
    again = trained(models_cache, tmp_path / "w", world(), config=config)
    assert [p.loss for p in again.history.points] == [p.loss for p in report.history.points]


def test_a_sample_has_its_seeds_first_and_bounded_neighbours() -> None:
    known = graph_of(graph(240))
    taken = sample(known, [5, 2], (2, 1), np.random.default_rng(0))
    assert taken[:2].tolist() == [5, 2]
    assert 2 < len(taken) <= 2 * 3 * 2
    assert len(set(taken.tolist())) == len(taken)
    part = induced(known, taken)
    assert [node.id for node in part.nodes[:2]] == [known.nodes[5].id, known.nodes[2].id]
    assert part.edges.max() < len(taken)


def test_a_node_that_only_a_link_names_is_there_without_a_text() -> None:
    link = Link(source="G9", source_kind="group", relation="uses", target="T9", target_kind="technique")
    one = msgspec.structs.replace(graph(1)[-1], link=link)
    known = graph_of([one])
    assert [(node.id, node.kind, node.text) for node in known.nodes] == [
        ("G9", "group", ""),
        ("T9", "technique", ""),
    ]
    assert rows_of(known)[0].label == "uses:group"
    assert graph_of([one], judged=[link]).nodes == ()


def test_an_export_of_the_graph_says_what_the_journal_says(tmp_path: Path) -> None:
    path = tmp_path / "threat_ontology.json"
    node = {"id": "T1", "kind": "technique", "name": "One", "text": "said", "tactics": ["impact", "execution"]}
    edge = {
        "id": "r1", "source": "G1", "source_kind": "group", "relation": "uses", "target": "T1",
        "target_kind": "technique",
    }  # fmt: skip
    path.write_bytes(msgspec.json.encode({"nodes": [node], "edges": [edge]}))
    first, second = load_export(path)
    assert (first.key, first.labels) == ("node:T1", ("execution", "impact"))
    assert (second.key, second.labels, second.link and second.link.target) == ("link:r1", ("uses:group",), "T1")
    path.write_bytes(b'{"nodes": [{"kind": "x"}]}')
    with pytest.raises(Corrupt, match=r"threat_ontology\.json is no export"):
        load_export(path)


def test_a_ranking_leaves_out_what_is_known_and_counts_what_is_found() -> None:
    scores = np.array([[9.0, 1.0, 2.0, 0.0]], dtype=np.float32)
    shown = np.array([[1.0, 0.0, 0.0, 0.0]], dtype=np.float32)
    hidden = np.array([[0.0, 1.0, 0.0, 1.0]], dtype=np.float32)
    recall, ndcg = ranked(scores, shown, hidden, k=2)
    assert recall[0] == 0.5
    assert ndcg[0] == pytest.approx(np.log2(3) ** -1 / (1 + np.log2(3) ** -1))
    assert ranking_scores(scores, shown, 0 * hidden).examples == 0


def test_item_cosine_prefers_what_goes_together() -> None:
    known = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=np.float32)
    assert item_cosine(np.array([[1, 0, 0]], dtype=np.float32), known).argmax() == 1
