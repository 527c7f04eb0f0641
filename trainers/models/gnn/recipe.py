"""The recipe of `gnn-threat`: how a version is trained.

    1 graph     nodes and training-side edges of all examples; texts embedded, those of the parent reused
    2 network   the parent, expanded by new kinds, relations and labels; or a new network
    3 champion  the parent is scored on the window, which it has not seen, and on the holdout; then the columns of
                tactics that no technique has any more are dropped
    4 train     a part of each source's techniques is hidden and ranked among all; tactics are trained as well
    5 evaluate  the candidate and simple baselines on the holdout
    6 save      network, embeddings of all nodes, graph, picture

Links of the holdout pass no messages, under whatever key. The encoder of texts is the base model, and not trained.
A graph of more than `max_nodes` nodes is sampled around each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from schemas.errors import BadData
from schemas.journal import Link
from schemas.recipes.gnn import GnnConfig
from schemas.scores import HOLDOUT, Evaluation, TaskScores, merge, of_split
from trainers.core.dataset import Dataset
from trainers.core.holdout import Holdout
from trainers.core.loop import Checkpointer, device_of
from trainers.core.phases import NOT_MEASURED, Phases
from trainers.core.progress import ProgressCallback
from trainers.core.report import Report
from trainers.models.deterministic import make_deterministic
from trainers.models.gnn.baselines import evaluate_baselines
from trainers.models.gnn.card import introduction
from trainers.models.gnn.embedding_plot import PICTURE, plot_embeddings
from trainers.models.gnn.evaluation import Evaluator
from trainers.models.gnn.examples import (
    all_links,
    graph_examples,
    holdout_links,
    nodes_without_texts,
    predicted_links,
    retired_tactics,
    techniques_with_tactics,
)
from trainers.models.gnn.graph import Graph, build_graph, link_rows, row_label
from trainers.models.gnn.movement import movement_from
from trainers.models.gnn.neighbourhood import GraphViews
from trainers.models.gnn.network import ThreatGnn, expand, keep_tactics
from trainers.models.gnn.saving import MODEL, VersionConfig, load_network, save_version
from trainers.models.gnn.shape import Shape, extend_shape, first_shape
from trainers.models.gnn.text_features import embed_node_texts
from trainers.models.gnn.training import train_network
from trainers.models.gnn.view import View
from transport.files import sha256_of

__all__ = ["BASE_ARCHITECTURE", "NEEDS_GRAPH_CONTEXT", "PIPELINE", "evaluate", "introduction", "run"]

BASE_ARCHITECTURE = "distilbert"
NEEDS_GRAPH_CONTEXT = True
PIPELINE = "graph-ml"

_NODES_PER_PART = 4_000
"""Nodes of a sampled graph whose embeddings are computed at a time."""


def run(
    data: Dataset,
    labels: Sequence[str],
    base: Path,
    parent: Path | None,
    config: GnnConfig,
    folder: Path,
    on_progress: ProgressCallback,
    *,
    checkpointer: Checkpointer | None = None,
    phases: Phases = NOT_MEASURED,
    texts_of: Path | None = None,
) -> Report:
    """Train one version.

    Args:
        data: At least one example to train on. Without a context, the graph is that of these examples.
        labels: What the model must know; it keeps those of its parent as well.
        base: Folder of the encoder of texts, a DistilBERT.
        parent: Folder of the version to start from, or None. It is not changed.
        config: See `GnnConfig`.
        folder: Where the version is written; exists and is empty.
        on_progress: Called after every step; what it raises ends the run.
        checkpointer: Loads and saves the checkpoint of a killed run; None for none.
        phases: Measures how long each phase takes.
        texts_of: Folder of a version whose text vectors are reused; the parent's where None.

    Raises:
        ArithmeticError: The loss is not a finite number any more.
        BadData: The graph has no edges.
        BadConfiguration: The parent's text vectors have another size than those of the base model.
    """
    make_deterministic(config)

    # 1 graph
    unseen = holdout_links(data)
    graph = _graph(data, unseen)
    encoder = sha256_of(base / MODEL)
    texts, text_hashes = embed_node_texts(graph, base, encoder, texts_of or parent, config, on_progress)

    # 2 network
    parent_network = load_network(parent) if parent else None
    shape = _shape(graph, data, labels, parent_network, int(texts.shape[1]), config)
    network = _network(shape, parent_network, config)
    views = GraphViews(graph, texts, lambda part, vectors: View(part, vectors, shape, device_of(config)), config)

    phases.start("score parent")  # 3 champion
    evaluator = Evaluator(network, views, data, unseen, config.threshold, on_progress)
    champion = _score_parent(evaluator) if parent else {}
    retired = _retire_tactics(network, data)

    phases.start("fit")  # 4 train
    evaluate = _evaluation_of(evaluator, phases)
    history = train_network(
        network, views, data, config, on_progress, checkpointer, evaluate, is_warm_start=parent is not None
    )

    phases.start("evaluate")  # 5 evaluate
    candidate = evaluator.on_holdout("scoring the candidate")
    trivial_baseline, baselines = evaluate_baselines(views, data, unseen, network.shape.tactics)

    phases.start("write")  # 6 save
    settings = VersionConfig(network.shape, graph.type_names, config.threshold, config.max_tokens, encoder)
    tactics = dict(techniques_with_tactics(data.train))
    embeddings = _save(folder, network, views, settings, text_hashes, tactics, phases)
    return Report(
        labels=(*network.shape.tactics, *network.shape.labels), history=history,
        candidate=candidate, champion=champion, trivial_baseline=trivial_baseline, baselines=baselines,
        details=_details(views, retired, embeddings, parent),
    )  # fmt: skip


def evaluate(
    holdout: Holdout,
    parts: Sequence[Sequence[int]],
    version: Path,
    base: Path,
    config: GnnConfig,
    on_progress: ProgressCallback,
) -> list[dict[str, TaskScores]]:
    """Score a version on parts of a holdout; see `trainers.models.recipe.Recipe.evaluate`.

    The graph is that of `holdout.known`. What else is to be ranked, or has a link to find, is a node without a text
    in it; and what is true but not asked for is ranked nowhere. So all versions rank the same techniques.
    """
    make_deterministic(config)
    known = (*holdout.known, *nodes_without_texts(holdout))
    data = Dataset(recent=holdout.examples, context=known)
    unseen = holdout_links(Dataset(recent=holdout.examples, context=holdout.current + holdout.known))
    graph = _graph(data, unseen)
    texts, _ = embed_node_texts(graph, base, sha256_of(base / MODEL), version, config, on_progress)
    trained = load_network(version)
    network = _network(_shape(graph, data, (), trained, int(texts.shape[1]), config), trained, config)
    shape = network.shape
    views = GraphViews(graph, texts, lambda part, vectors: View(part, vectors, shape, device_of(config)), config)
    true = all_links(holdout)
    return Evaluator(network, views, data, true, config.threshold, on_progress).on_parts(parts)


def _details(
    views: GraphViews, retired: frozenset[str], embeddings: torch.Tensor, parent: Path | None
) -> dict[str, Any]:
    """The size of the graph, the tactics that were dropped, and how far the embeddings moved from the parent's."""
    nodes = views.graph.nodes
    moved = movement_from(parent, [node.id for node in nodes], embeddings) if parent else None
    size = {"nodes": len(nodes), "edges": int(views.graph.edges.shape[1]), "rows": len(views.rows)}
    return {
        **size,
        "retired_labels": sorted(retired),
        **({"embedding_movement": msgspec.to_builtins(moved)} if moved else {}),
    }


def _graph(data: Dataset, unseen: frozenset[Link]) -> Graph:
    """The graph of all examples.

    Raises:
        BadData: It has no edges.
    """
    graph = build_graph(graph_examples(data), unseen)
    if not graph.edges.size:
        raise BadData(
            f"the graph has {len(graph.nodes)} nodes and no relationship to learn from: all are retracted, in the "
            "holdout, or were never fetched; at least 1 is needed: fetch a feed with relationships, such as "
            "attack-enterprise"
        )
    return graph


def _score_parent(evaluator: Evaluator) -> Evaluation:
    """The parent's scores on the window, then on the holdout."""
    prequential = evaluator.on_window()
    return merge(evaluator.on_holdout("scoring the champion"), prequential)


def _evaluation_of(evaluator: Evaluator, phases: Phases) -> Callable[[], dict[str, TaskScores]]:
    """The evaluation during training, whose time is not that of the fit."""

    def evaluate() -> dict[str, TaskScores]:
        with phases.within("evaluate"):
            return of_split(evaluator.on_holdout("scoring the candidate"), HOLDOUT)

    return evaluate


def _save(
    folder: Path, network: ThreatGnn, views: GraphViews, settings: VersionConfig, text_hashes: Sequence[str],
    tactics: Mapping[str, Sequence[str]], phases: Phases,
) -> torch.Tensor:  # fmt: skip
    """Write the version with the embeddings of all nodes, and the plot of them. Returns the embeddings."""
    embeddings = _embeddings(network, views)
    save_version(folder, network, settings, views.graph, views.texts, text_hashes, embeddings)
    nodes = views.graph.nodes
    kinds = [node.kind for node in nodes]
    with phases.optional("draw", PICTURE):
        plot_embeddings(embeddings.numpy(), kinds, [tactics.get(node.id, ()) for node in nodes], folder)
    return embeddings


def _retire_tactics(network: ThreatGnn, data: Dataset) -> frozenset[str]:
    """Drop the tactics that no technique has any more, and return them."""
    retired = retired_tactics(network.shape.tactics, data)
    keep_tactics(network, [name for name in network.shape.tactics if name not in retired])
    return retired


def _shape(
    graph: Graph, data: Dataset, labels: Sequence[str], parent: ThreatGnn | None, text: int, config: GnnConfig
) -> Shape:
    """The parent's shape, with room for all that the graph, the links and the labels of a run have."""
    links = predicted_links(data.train + data.old + data.recent)
    row_labels = {row.label for row in link_rows(graph)} | {row_label(link) for link in links}
    tactics = {name for _, names in techniques_with_tactics(data.train) for name in names}
    tactics |= {label for label in labels if ":" not in label}
    shape = parent.shape if parent else first_shape(text, config.width)
    return extend_shape(shape, text, graph, row_labels, tactics)


def _network(shape: Shape, parent: ThreatGnn | None, config: GnnConfig) -> ThreatGnn:
    """A new network with the parameters of the parent, on the device of the configuration."""
    network = ThreatGnn(shape, config.dropout)
    if parent:
        expand(parent, network)
    network.to(device_of(config))
    return network


def _embeddings(network: ThreatGnn, views: GraphViews) -> torch.Tensor:
    """(nodes, width), float32: embeddings of all nodes; of a sampled graph, computed in parts. Ends on the CPU."""
    network.eval()
    nodes = len(views.graph.nodes)
    parts = [np.arange(nodes)] if views.is_whole else np.array_split(np.arange(nodes), 1 + nodes // _NODES_PER_PART)
    embeddings = torch.zeros(nodes, network.shape.width)
    for part in (part.tolist() for part in parts):
        around = views.around(part, 0)
        vectors = network.to(around.view.device).embeddings(around.view)
        embeddings[part] = vectors[[around.position[node] for node in part]].cpu()
    network.cpu()
    return embeddings
