"""The recipe of `gnn-threat`: which techniques go with an actor, a tool, a mitigation, and a technique's tactics.

    1 graph     nodes and training-side edges of all that stands; texts embedded, each once, the parent's kept
    2 load      the parent, grown by new kinds, relations and labels; or a new network
    3 score     the parent on what it has not seen: the links and techniques of the window, and the holdout
    4 fit       a part of each source's techniques is hidden and found again among all (softmax over all of them,
                so every other technique is a negative); beside it the tactics of techniques
    5 evaluate  the candidate on the holdout, beside item cosine and popularity
    6 save      network, embeddings of every node, the graph it stands on, a picture

Held-out links are in no message passing, under whatever key. The encoder of texts is the base model, whose weights
stay as they are. A graph of more than `max_nodes` nodes is sampled around each batch.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from schemas.errors import BadConfiguration
from schemas.journal import Example, Link, Node, held_out
from schemas.scores import (
    HOLDOUT,
    OLD,
    PREQUENTIAL,
    RECENT,
    TACTICS,
    TECHNIQUES,
    Evaluation,
    TaskScores,
    merge,
    of_split,
)
from schemas.versions import Manifest
from trainers.bases.text_embedding import embed_texts
from trainers.core.conditional import at_least_one
from trainers.core.dataset import Dataset, OffsetExample
from trainers.core.history import History
from trainers.core.loop import Checkpointer, device_of, fit, make_deterministic
from trainers.core.metrics.classification import (
    classification_scores,
    extend_labels,
    label_matrix,
    most_frequent_labels,
)
from trainers.core.metrics.ranking import Matrix, item_cosine, popularity, ranking_scores
from trainers.core.progress import ProgressCallback, RunProgress
from trainers.core.report import Report
from trainers.models.gnn.config import GnnConfig
from trainers.models.gnn.graph import (
    Graph,
    Ints,
    Row,
    graph_of,
    induced,
    matrix,
    predicted,
    row_label,
    rows_of,
    sample,
    without,
)
from trainers.models.gnn.network import Shape, ThreatGnn, View, asked_of, grown, with_strangers
from trainers.reporting.plots import picture
from transport.files import sha256_of

Config = GnnConfig
BASE_KIND = "distilbert"
CONTEXT = True
PIPELINE = "graph-ml"

MODEL, EMBEDDINGS, GRAPH = "model.safetensors", "embeddings.safetensors", "graph.safetensors"
SETTINGS, NODES, PICTURE = "config.json", "nodes.json", "embeddings.png"
SCORED_AT_ONCE = 256
"""Rows."""


class Settings(msgspec.Struct, frozen=True):
    """`config.json` of a version. `encoder` is the sha256 of the weights that embedded the texts."""

    shape: Shape
    edge_types: tuple[str, ...]
    threshold: float
    max_tokens: int
    encoder: str
    model_type: str = "gnn-threat"


class KnownNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of `nodes.json`, in the order of the rows of the embeddings; `text` is a hash of what was embedded."""

    id: str
    kind: str
    name: str = ""
    text: str = ""


class Loaded(msgspec.Struct, frozen=True):
    """A version in memory: its network, and the graph it stands on."""

    network: ThreatGnn
    view: View
    settings: Settings

    def techniques(
        self,
        kind: str,
        shown: Iterable[str],
        k: int = 20,
        relation: str = "uses",
        text_vector: torch.Tensor | None = None,
    ) -> list[tuple[str, float]]:
        """Techniques that go with a source that nobody has seen, best first, each with its probability.

        Args:
            kind: Of the source: `group`, `malware`, `tool`, `campaign`, ...
            shown: Ids of techniques that are known of it; others than the graph has are passed over.
            text_vector: What the base model makes of its name and description; (dim,).
        """
        known = set(shown)
        vector = torch.zeros(self.settings.shape.text) if text_vector is None else text_vector
        row = (Node(id="", kind=kind), f"{relation}:{kind}", known)
        scores = torch.from_numpy(rank_strangers(self, [row], vector[None])[0])
        ids = [self.view.graph.nodes[node].id for node in self.view.targets]
        scores[[i for i, name in enumerate(ids) if name in known]] = -torch.inf
        best = scores.softmax(0).topk(min(k, len(ids)))
        return [(ids[i], float(p)) for p, i in zip(best.values, best.indices.tolist(), strict=True) if p > 0]


def run(
    data: Dataset,
    labels: Sequence[str],
    base: Path,
    parent: Path | None,
    config: Config,
    folder: Path,
    on_progress: ProgressCallback,
    *,
    checkpointer: Checkpointer | None = None,
    texts_of: Path | None = None,
) -> Report:
    """Train one version.

    Args:
        data: At least one example to train on; without a context, the graph is that of these examples.
        labels: What the model must know; it keeps those of its parent as well.
        base: Folder of the encoder of texts.
        parent: Folder of the version to start from, or None. It is not changed.
        config: See `GnnConfig`.
        folder: Where the version is written; exists and is empty.
        on_progress: Called after every step; what it raises ends the run.
        checkpointer: Loads and saves the checkpoint of a killed run; None for none.
        texts_of: A version whose embedded texts are taken over; the parent where None.

    Raises:
        ArithmeticError: The loss is not a finite number any more.
        BadConfiguration: The parent's texts were embedded in another size.
    """
    make_deterministic(config)

    # 1 graph
    judged = _judged_links(data)
    graph = graph_of(_standing(data), judged)
    encoder = sha256_of(base / MODEL)
    texts, hashes = _texts(graph, base, texts_of or parent, encoder, config, on_progress)

    # 2 load
    before = load(parent).network if parent else None
    shape = _shape(graph, data, labels, before, int(texts.shape[1]), config)
    network = ThreatGnn(shape, config.dropout)
    if before:
        grown(before, network)
    device = device_of(config)
    network.to(device)

    def view_of(some: Graph, vectors: torch.Tensor) -> View:
        return View(some, vectors, shape, device)

    world = _World(graph, texts, view_of, config)

    # 3 classification_scores the parent
    champion: Evaluation = {}
    if parent:
        prequential = _prequential(network, world, data, shape, config, on_progress)
        champion = merge(
            _judge(network, world, data, judged, shape, config, on_progress, "scoring the champion"), prequential
        )

    # 4 fit
    def evaluate() -> dict[str, TaskScores]:
        found = _judge(network, world, data, judged, shape, config, on_progress, "scoring the candidate")
        return of_split(found, HOLDOUT)

    history = _fit(network, world, data, config, on_progress, checkpointer, evaluate, is_child=parent is not None)

    # 5 evaluate
    candidate = _judge(network, world, data, judged, shape, config, on_progress, "scoring the candidate")
    trivial, baselines = _simple(world, data, judged, shape)

    # 6 save
    settings = Settings(shape, graph.type_names, config.threshold, config.max_tokens, encoder)
    _save(network, world, settings, hashes, folder)
    details = {"nodes": len(graph.nodes), "edges": int(graph.edges.shape[1]), "rows": len(rows_of(graph))}
    return Report(
        labels=(*shape.tactics, *shape.labels),
        candidate=candidate,
        champion=champion,
        trivial_baseline=trivial,
        baselines=baselines,
        history=history,
        details=details,
    )


# ---- the graph, and what stands in it


def _standing(data: Dataset) -> list[Example]:
    """Everything that is or was there, in order of offset, each once."""
    placed = dict([*data.context, *data.old, *data.recent, *data.train])
    return [placed[offset] for offset in sorted(placed)]


def _judged_links(data: Dataset) -> frozenset[Link]:
    """The links that no version may see: those of the holdout, judged on or not."""
    trained = {offset for offset, _ in data.train}
    context = [e for offset, e in data.context if offset not in trained and held_out(e)]
    return frozenset(e.link for e in [*context, *(e for _, e in data.old + data.recent)] if e.link)


def _links(placed: Iterable[OffsetExample]) -> list[Link]:
    return [example.link for _, example in placed if example.link and predicted(example.link)]


def _techniques(placed: Iterable[OffsetExample]) -> list[tuple[str, tuple[str, ...]]]:
    """Id and tactics of the techniques among some examples."""
    return [(example.node.id, example.labels) for _, example in placed if example.node and example.labels]


def _text_of(node: Node) -> str:
    return f"{node.name}. {node.text}" if node.name and node.text else node.name or node.text


def _text_hash(text: str, encoder: str, max_tokens: int) -> str:
    return hashlib.blake2b(f"{encoder}:{max_tokens}:{text}".encode(), digest_size=8).hexdigest()


def _texts(
    graph: Graph, base: Path, parent: Path | None, encoder: str, config: Config, on_progress: ProgressCallback
) -> tuple[torch.Tensor, list[str]]:
    """(nodes, dim), what the encoder makes of each node's text, and its hash; the parent's are taken over."""
    words = [_text_of(node).strip() for node in graph.nodes]
    hashes = [_text_hash(text, encoder, config.max_tokens) if text else "" for text in words]
    known: dict[str, torch.Tensor] = {}
    if parent:
        nodes = msgspec.json.decode((parent / NODES).read_bytes(), type=list[KnownNode])
        known = {n.text: row for n, row in zip(nodes, load_file(parent / GRAPH)["texts"], strict=True) if n.text}
    new = {key: text for key, text in zip(hashes, words, strict=True) if key and key not in known}
    vectors = embed_texts(base, list(new.values()), config.max_tokens, device_of(config), on_progress)
    known |= dict(zip(new, vectors, strict=True))
    nothing = torch.zeros(vectors.shape[1])
    return torch.stack([known.get(key, nothing) for key in hashes] or [nothing])[: len(words)], hashes


def _shape(
    graph: Graph, data: Dataset, labels: Sequence[str], before: ThreatGnn | None, text: int, config: Config
) -> Shape:
    """What the network must have room for: all that its parent had, and all that is there."""
    old = before.shape if before else Shape(text, config.width, (), (), (), (), ())
    if old.text != text:
        raise BadConfiguration(
            f"the parent's texts have {old.text} numbers each, those of this base model {text}: name the base "
            "model of the first version, or start a new first version"
        )
    links = [*_links(data.train), *_links(data.old + data.recent)]
    rows = sorted({row.label for row in rows_of(graph)} | {row_label(link) for link in links})
    tactics = sorted(
        {x for _, found in _techniques(data.train) for x in found} | {x for x in labels if ":" not in x}
    )
    return Shape(
        text=text,
        width=old.width,
        kinds=extend_labels(old.kinds, [[node.kind for node in graph.nodes]]),
        types=extend_labels(old.types, [graph.type_names]),
        labels=extend_labels(old.labels, [rows]),
        relations=extend_labels(old.relations, [[label.partition(":")[0] for label in rows]]),
        tactics=extend_labels(old.tactics, [tactics]),
    )


class _World:
    """The graph as views: the whole of it where it fits, else a sample around what is asked."""

    def __init__(
        self, graph: Graph, texts: torch.Tensor, view_of: Callable[[Graph, torch.Tensor], View], config: Config
    ) -> None:
        self.graph, self.texts, self._view_of, self._config = graph, texts, view_of, config
        self.index = graph.index
        self.rows = rows_of(graph)
        self.is_whole = len(graph.nodes) <= config.max_nodes
        self._whole = view_of(graph, texts) if self.is_whole else None

    def less(self, links: Iterable[Link]) -> _World:
        """The world as if these links had not been said."""
        return _World(without(self.graph, links), self.texts, self._view_of, self._config)

    def around(self, nodes: Sequence[int], seed: int) -> tuple[View, dict[int, int]]:
        """A view with these nodes and all techniques, and node of the graph -> node of the view.

        Args:
            seed: Of the sample.
        """
        if self._whole:
            return self._whole, dict(zip(range(len(self.graph.nodes)), range(len(self.graph.nodes)), strict=True))
        seeds = sorted({*nodes, *self.graph.targets})
        taken = neighbourhood(self.graph, seeds, (self._config.neighbours,) * 2, seed)
        place = {int(node): i for i, node in enumerate(taken)}
        return self._view_of(induced(self.graph, taken), self.texts[torch.from_numpy(taken)]), place

    def moved(self, rows: Sequence[Row], place: dict[int, int]) -> list[Row]:
        """Rows of the graph as those of a view."""
        return [Row(place[r.source], r.label, tuple(place[t] for t in r.targets)) for r in rows]


def neighbourhood(graph: Graph, seeds: Sequence[int], per_hop: Sequence[int], seed: int) -> Ints:
    """Nodes around some nodes, those first: by `NeighborLoader` where `pyg-lib` is there, else our own sample."""
    if importlib.util.find_spec("pyg_lib") is None:
        return sample(graph, seeds, per_hop, np.random.default_rng(seed))
    from torch_geometric.data import Data
    from torch_geometric.loader import NeighborLoader

    edges = torch.from_numpy(np.concatenate([graph.edges, graph.edges[::-1]], axis=1).copy())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loader = NeighborLoader(
            Data(edge_index=edges, num_nodes=len(graph.nodes)),
            num_neighbors=list(per_hop),
            input_nodes=torch.tensor(list(seeds)),
            batch_size=len(seeds),
        )
        found: Ints = next(iter(loader)).n_id.numpy()
    return found


# ---- fit


def _fit(
    network: ThreatGnn,
    world: _World,
    data: Dataset,
    config: Config,
    on_progress: ProgressCallback,
    checkpointer: Checkpointer | None,
    evaluate: Callable[[], dict[str, float]],
    *,
    is_child: bool,
) -> History:
    """Train in place: every source that a link of the examples has, and every technique among them."""
    index = world.index
    touched = {(index[link.source], row_label(link)) for link in _links(data.train) if link.source in index}
    rows = [row for row in world.rows if (row.source, row.label) in touched]
    techniques = [(index[name], tactics) for name, tactics in _techniques(data.train) if name in index]
    targets = torch.from_numpy(label_matrix([tactics for _, tactics in techniques], network.shape.tactics)).float()
    lessons = len(rows) + len(techniques)
    draw = torch.Generator().manual_seed(config.seed)
    plan = [
        [batch.tolist() for batch in torch.randperm(lessons, generator=draw).split(config.batch_size)]
        for _ in range(config.epochs if lessons else 0)
    ]

    def loss(wrapped: nn.Module, batch: Sequence[int]) -> torch.Tensor:
        mine = [rows[i] for i in batch if i < len(rows)]
        others = [i - len(rows) for i in batch if i >= len(rows)]
        asked_nodes = [row.source for row in mine] + [techniques[i][0] for i in others]
        view, place = world.around(asked_nodes, _seed_of_sample() if not world.is_whole else 0)
        asked = asked_of(view, network.shape, world.moved(mine, place))
        shown, hidden = _hide(asked.shown, config)
        nodes = torch.tensor([place[techniques[i][0]] for i in others], dtype=torch.long, device=view.device)
        scores, logits = wrapped(view, msgspec.structs.replace(asked, shown=shown), nodes)
        likely = scores.float().masked_fill(shown > 0, -1e9).log_softmax(1)
        found = (likely * hidden).sum(1) / hidden.sum(1).clamp(min=1.0)
        size = asked.shown.sum(1).sqrt()
        wanted = targets[others].to(view.device)
        tactics = nn.functional.binary_cross_entropy_with_logits(logits.float(), wanted, reduction="none").sum()
        return tactics - (found * size).sum()

    def weight(batch: Sequence[int]) -> float:
        return sum(len(rows[i].targets) ** 0.5 if i < len(rows) else 1.0 for i in batch)

    groups = _parameter_groups(network, config, config.warm_start_lr_scale if is_child else 1.0)
    return fit(
        network, plan, loss, groups, config, on_progress,
        weight=weight, checkpointer=checkpointer, evaluate=evaluate,
    )  # fmt: skip


def _seed_of_sample() -> int:
    return int(torch.randint(2**31, ()))


def _hide(known: torch.Tensor, config: Config) -> tuple[torch.Tensor, torch.Tensor]:
    """What is shown of each row and what is to be found: a share drawn for each row, at least one to be found."""
    share = config.shown_from + (config.shown_to - config.shown_from) * torch.rand(len(known), 1)
    chance = torch.rand(known.shape).to(known.device) * known
    hidden = known * (chance > share.to(known.device))
    if known.numel():
        hidden.scatter_(1, chance.argmax(1, keepdim=True), 1.0)
    hidden = hidden * known
    return known - hidden, hidden


PATHS = frozenset(
    (
        "paths", "alike_text", "alike_shown", "alike_label", "smooth", "attention",
        "paths_by_number", "attention_by_number", "sharper_by_number",
    )
)  # fmt: skip


def _parameter_groups(network: ThreatGnn, config: Config, share: float) -> list[dict[str, object]]:
    named = list(network.named_parameters())
    return [
        {"params": [p for name, p in named if name not in PATHS], "lr": config.learning_rate * share},
        {
            "params": [p for name, p in named if name in PATHS],
            "lr": config.path_learning_rate * share,
            "weight_decay": 0.0,
        },
    ]


# ---- evaluate


class _Cases(msgspec.Struct, frozen=True):
    """Rows with hidden links, and (rows, targets) of what is not ranked and of what is hidden."""

    rows: tuple[Row, ...]
    known: Matrix
    hidden: Matrix


def _cases(world: _World, links: Iterable[Link], others: Iterable[Link] = ()) -> _Cases:
    """Links by row; those with an end that is no node of the graph are left out. `others` aren't ranked either."""
    column = {node: i for i, node in enumerate(world.graph.targets)}
    hidden: dict[tuple[int, str], set[int]] = {}
    passed: dict[tuple[int, str], set[int]] = {}
    for some, into in ((links, hidden), (others, passed)):
        for link in some:
            source, target = world.index.get(link.source), world.index.get(link.target)
            if source is not None and target in column:
                into.setdefault((source, row_label(link)), set()).add(target)
    targets = {(row.source, row.label): row.targets for row in world.rows}
    rows = tuple(Row(source, label, targets.get((source, label), ())) for source, label in sorted(hidden))
    found = [hidden[row.source, row.label] - set(row.targets) for row in rows]
    out = [
        {*row.targets, *passed.get((row.source, row.label), set())} - f for row, f in zip(rows, found, strict=True)
    ]
    return _Cases(rows, matrix(out, column), matrix(found, column))


@torch.no_grad()
def network_scores(network: ThreatGnn, view: View, rows: Sequence[Row]) -> Matrix:
    """(rows, targets); the targets of a row are what is shown of it."""
    network.eval()
    nobody = torch.zeros(0, dtype=torch.long, device=view.device)
    found = [
        network(view, asked_of(view, network.shape, rows[i : i + SCORED_AT_ONCE]), nobody)[0].float().cpu().numpy()
        for i in range(0, len(rows), SCORED_AT_ONCE)
    ]
    return np.concatenate([np.zeros((0, len(view.targets)), dtype=np.float32), *found])


def _rank(network: ThreatGnn, world: _World, cases: _Cases) -> Matrix:
    view, place = world.around([row.source for row in cases.rows], 0)
    scores = network_scores(network, view, world.moved(cases.rows, place))
    back = [view.column[place[node]] for node in world.graph.targets]
    return scores[:, back]


@torch.no_grad()
def _tactic_probabilities(network: ThreatGnn, world: _World, nodes: Sequence[int]) -> Matrix:
    """(nodes, tactics), given that a technique has at least one."""
    network.eval()
    view, place = world.around(nodes, 0)
    asked = torch.tensor([place[node] for node in nodes], dtype=torch.long, device=view.device)
    logits = network(view, asked_of(view, network.shape, ()), asked)[1]
    return at_least_one(logits.double().cpu().numpy()).astype(np.float32)


def _tactic_scores(
    probabilities: Matrix, truth: Sequence[Sequence[str]], shape: Shape, threshold: float
) -> TaskScores:
    everything = extend_labels(shape.tactics, truth)
    predicted_ = np.zeros((len(truth), len(everything)), dtype=np.bool_)
    predicted_[:, : len(shape.tactics)] = probabilities >= threshold
    return classification_scores(label_matrix(truth, everything), predicted_, everything)


def _judge(
    network: ThreatGnn,
    world: _World,
    data: Dataset,
    judged: frozenset[Link],
    shape: Shape,
    config: Config,
    on_progress: ProgressCallback,
    phase: str,
) -> Evaluation:
    """TaskScores of the splits of the holdout, in links and tactics."""
    out: Evaluation = {}
    for step, (split, placed) in enumerate(_splits(data).items(), 1):
        cases = _cases(world, _links(placed), judged)
        ranked = ranking_scores(_rank(network, world, cases), cases.known, cases.hidden)
        out = merge(
            out, {TECHNIQUES: {split: ranked}}, _tactics_split(network, world, split, placed, shape, config)
        )
        on_progress(RunProgress(phase, step, 3))
    return out


def _splits(data: Dataset) -> dict[str, tuple[OffsetExample, ...]]:
    return {OLD: data.old, RECENT: data.recent, HOLDOUT: data.old + data.recent}


def _tactics_split(
    network: ThreatGnn, world: _World, split: str, placed: Sequence[OffsetExample], shape: Shape, config: Config
) -> Evaluation:
    if not shape.tactics:
        return {}
    asked = [(world.index[name], tactics) for name, tactics in _techniques(placed) if name in world.index]
    found = _tactic_probabilities(network, world, [node for node, _ in asked])
    truth = [tactics for _, tactics in asked]
    return {TACTICS: {split: _tactic_scores(found, truth, shape, config.threshold)}}


def _prequential(
    network: ThreatGnn, world: _World, data: Dataset, shape: Shape, config: Config, on_progress: ProgressCallback
) -> Evaluation:
    """The parent's scores on the window's links, which its graph doesn't have yet, and techniques."""
    links = _links(data.fresh)
    before = world.less(example.link for _, example in data.fresh if example.link)
    cases = _cases(before, links)
    ranked = ranking_scores(_rank(network, before, cases), cases.known, cases.hidden)
    on_progress(RunProgress("scoring the champion", 0, 3))
    tactics = _tactics_split(network, before, PREQUENTIAL, data.fresh, shape, config)
    return merge({TECHNIQUES: {PREQUENTIAL: ranked}}, tactics)


Baselines = dict[str, Evaluation]


def _simple(world: _World, data: Dataset, judged: frozenset[Link], shape: Shape) -> tuple[Evaluation, Baselines]:
    """TaskScores on the holdout of what is popular, and of item cosine and a linear model of texts."""
    column = {node: i for i, node in enumerate(world.graph.targets)}
    cases = _cases(world, _links(data.old + data.recent), judged)
    ways = {"popularity": popularity, "item cosine": item_cosine}
    found = {name: np.zeros_like(cases.known) for name in ways}
    shown = matrix([row.targets for row in cases.rows], column)
    for relation in {row.relation for row in cases.rows}:
        of_it = [i for i, row in enumerate(cases.rows) if row.relation == relation]
        known = matrix([row.targets for row in world.rows if row.relation == relation], column)
        for name, way in ways.items():
            found[name][of_it] = way(shown[of_it], known)
    ranked = {name: ranking_scores(scores, cases.known, cases.hidden) for name, scores in found.items()}
    trivial: Evaluation = {TECHNIQUES: {HOLDOUT: ranked["popularity"]}}
    baselines: Baselines = {"item cosine": {TECHNIQUES: {HOLDOUT: ranked["item cosine"]}}}
    if shape.tactics:
        train, holdout = _techniques(data.train), _techniques(data.old + data.recent)
        truth = [tactics for _, tactics in holdout]
        frequent = most_frequent_labels(tactics for _, tactics in train)
        guess = label_matrix([frequent] * len(holdout), shape.tactics).astype(np.float32)
        trivial[TACTICS] = {HOLDOUT: _tactic_scores(guess, truth, shape, 0.5)}
        words = {node.id: _text_of(node) for node in world.graph.nodes}
        linear = _linear(
            [words[name] for name, _ in train], [t for _, t in train], [words[n] for n, _ in holdout], shape
        )
        baselines["TF-IDF + linear"] = {TACTICS: {HOLDOUT: _tactic_scores(linear, truth, shape, 0.5)}}
    return trivial, baselines


def _linear(texts: list[str], labels: list[tuple[str, ...]], asked: list[str], shape: Shape) -> Matrix:
    """(asked, tactics) of 0 and 1: a linear support vector machine per tactic over words and pairs of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    out = np.zeros((len(asked), len(shape.tactics)), dtype=np.float32)
    wanted = label_matrix(labels, shape.tactics)
    if not asked or not texts:
        return out
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    try:
        seen, new = words.fit_transform(texts), words.transform(asked)
    except ValueError:  # no word in any text
        return out
    for i in range(len(shape.tactics)):
        both = 0 < wanted[:, i].sum() < len(wanted)
        out[:, i] = LinearSVC().fit(seen, wanted[:, i]).predict(new) if both else bool(wanted[:, i].any())
    return out


# ---- save and load


def _save(network: ThreatGnn, world: _World, settings: Settings, hashes: Sequence[str], folder: Path) -> None:
    network.cpu()
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / MODEL)
    graph = world.graph
    vectors = _embeddings(network, world)
    save_file({"embeddings": vectors}, folder / EMBEDDINGS)
    save_file(
        {
            "texts": world.texts.contiguous(),
            "edges": torch.from_numpy(graph.edges.copy()),
            "types": torch.from_numpy(graph.types.copy()),
        },
        folder / GRAPH,
    )
    nodes = [KnownNode(n.id, n.kind, n.name, key) for n, key in zip(graph.nodes, hashes, strict=True)]
    (folder / NODES).write_bytes(msgspec.json.format(msgspec.json.encode(nodes), indent=1) + b"\n")
    (folder / SETTINGS).write_bytes(msgspec.json.format(msgspec.json.encode(settings), indent=2) + b"\n")
    _draw(vectors.numpy(), [node.kind for node in graph.nodes], folder / PICTURE)


def _embeddings(network: ThreatGnn, world: _World) -> torch.Tensor:
    """(nodes, width) of every node of the graph; where it is sampled, in pieces."""
    network.eval()
    if world.is_whole:
        everything = list(range(len(world.graph.nodes)))
        pieces = [everything]
    else:
        pieces = [
            list(x) for x in np.array_split(np.arange(len(world.graph.nodes)), 1 + len(world.graph.nodes) // 4_000)
        ]
    out = torch.zeros(len(world.graph.nodes), network.shape.width)
    for piece in pieces:
        view, place = world.around(piece, 0)
        on_device = network.to(view.device)
        out[piece] = on_device.embeddings(view)[[place[int(node)] for node in piece]].cpu()
    network.cpu()
    return out


def _draw(vectors: Matrix, kinds: Sequence[str], path: Path) -> None:
    """The first two principal components of the embeddings, coloured by kind."""
    centred = vectors.astype(np.float64) - vectors.mean(0, keepdims=True) if len(vectors) else vectors
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2] if len(vectors) > 1 else np.eye(2, vectors.shape[1])
    axes = axes * np.where(axes.sum(1, keepdims=True) < 0, -1.0, 1.0)  # either direction is right: take one
    places = centred @ axes.T
    with picture(path, 9.0, 7.0) as figure:
        axis = figure.subplots()
        for i, kind in enumerate(sorted(set(kinds))):
            mine = [row for row, other in enumerate(kinds) if other == kind]
            axis.scatter(
                places[mine, 0], places[mine, -1], s=7, alpha=0.6, color=f"C{i % 10}", marker="o^s"[i // 10 % 3],
                label=f"{kind} ({len(mine)})",
            )  # fmt: skip
        axis.set(title="embeddings of the nodes, first two principal components", xlabel="first", ylabel="second")
        if kinds:
            axis.legend(fontsize=8)


def load(folder: Path | str) -> Loaded:
    """A version, on the CPU."""
    folder = Path(folder)
    settings = msgspec.json.decode((folder / SETTINGS).read_bytes(), type=Settings)
    network = ThreatGnn(settings.shape)
    network.load_state_dict(load_file(folder / MODEL))
    network.eval()
    tensors = load_file(folder / GRAPH)
    known = msgspec.json.decode((folder / NODES).read_bytes(), type=list[KnownNode])
    nodes = tuple(Node(id=n.id, kind=n.kind, name=n.name) for n in known)
    graph = Graph(nodes, tensors["edges"].numpy(), tensors["types"].numpy(), settings.edge_types)
    return Loaded(network, View(graph, tensors["texts"], settings.shape, torch.device("cpu")), settings)


def rank_strangers(
    loaded: Loaded, rows: Sequence[tuple[Node, str, Iterable[str]]], vectors: torch.Tensor
) -> Matrix:
    """Score every technique for sources that a version doesn't know.

    Args:
        rows: Each a source, the label of its row (`uses:group`), and ids of techniques that are shown of it.
        vectors: (rows, dim) of the sources' texts; 0 for none.

    Returns:
        (rows, techniques), in the order of `loaded.view.targets`.
    """
    shape, index = loaded.settings.shape, loaded.view.graph.index
    for _, label, _ in rows:
        if label not in shape.labels:
            raise BadConfiguration(f"this version knows no {label!r}: labels are {', '.join(shape.labels)}")
    view = with_strangers(loaded.view, shape, [node for node, _, _ in rows], vectors)
    first = len(index)
    asked = [
        Row(first + i, label, tuple(index[x] for x in sorted(set(shown)) if index.get(x) in view.column))
        for i, (_, label, shown) in enumerate(rows)
    ]
    return network_scores(loaded.network, view, asked)


# ---- the card


def introduction(manifest: Manifest) -> str:
    """What a version does and how it is used, in Markdown."""
    tactics = [label for label in manifest.labels if ":" not in label]
    rows = [label for label in manifest.labels if ":" in label]
    return f"""Says which ATT&CK techniques go with a source ({", ".join(rows) or "none yet"}), also one that it
never saw, from the techniques known of it; says a technique's tactics ({", ".join(tactics) or "none yet"}); and has
an embedding for every node of the threat graph.

```python
import json
from safetensors.torch import load_file

names = [node["id"] for node in json.load(open("nodes.json"))]
vectors = load_file("embeddings.safetensors")["embeddings"]  # (nodes, width), each of length 1

from trainers.models.gnn.predict import load

load(".").techniques("group", shown=["T1566.001", "T1059.001"], k=5)
```

`embeddings.png` shows them; `graph.safetensors` has the training-side edges that the network stands on."""
