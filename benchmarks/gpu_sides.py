"""The parts of `benchmarks.gpu`, as a process: `python -m benchmarks.gpu_sides DEVICE PRECISION SIZE PART...`.

    recipes      the three recipes: the losses of their steps, and their scores
    reference    the same on the CPU in float32
    memory       a batch that does not fit into memory
    checkpoint   a run that is killed, and resumed from its checkpoint
    ours         the recipe of phi3-mitre-lora on the shape of Phi-3-mini
    trainer      the Trainer of transformers with PEFT on the same model and examples

Each part prints a line of JSON. The code of the recipes trains; only the examples and the base models are made for
the benchmark. Dropout is off where two devices are compared, because they draw different random numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from benchmarks.gpu_data import FULL, TACTICS, TINY, Size, encoder, graph, instructions, phi3, texts
from benchmarks.gpu_phi3 import ours, trainer
from schemas.recipes.base import RecipeConfig
from schemas.recipes.distilbert import DistilbertConfig
from schemas.recipes.gnn import GnnConfig
from schemas.recipes.phi3_lora import Phi3LoraConfig
from schemas.scores import TaskScores
from trainers.bases.quiet import quiet_transformers
from trainers.core.history import History
from trainers.core.loop import device_of
from trainers.core.metrics.ranking import ranking_scores
from trainers.core.progress import ProgressCallback, RunProgress, no_progress
from trainers.models.deterministic import make_deterministic
from trainers.models.distilbert.head import load_base
from trainers.models.distilbert.hidden_states import HiddenStateCache, TrainableLayers
from trainers.models.distilbert.labels import label_sets, texts_of
from trainers.models.distilbert.objective import label_targets
from trainers.models.distilbert.tokenization import load_tokenizer, tokenize, truncate
from trainers.models.distilbert.training import PREDICTION_BATCH_SIZE, encoder_logits, train_encoder
from trainers.models.gnn.evaluation import ranking_cases
from trainers.models.gnn.examples import graph_examples, holdout_links
from trainers.models.gnn.graph import build_graph, link_rows
from trainers.models.gnn.neighbourhood import GraphViews
from trainers.models.gnn.network import ThreatGnn
from trainers.models.gnn.scoring import score_rows
from trainers.models.gnn.shape import extend_shape, first_shape
from trainers.models.gnn.training import train_network
from trainers.models.gnn.view import View
from trainers.models.phi3_lora.adapter import load_model, precision_of
from trainers.models.phi3_lora.chat import Chat
from trainers.models.phi3_lora.sampling import instructions_of
from trainers.models.phi3_lora.scorer import LanguageModelScorer
from trainers.models.phi3_lora.training import train_adapter
from trainers.runs.checkpoints import FolderCheckpointer

MAX_TOKENS = 64
MEMORY_SHARE = 0.7
"""Share of the activations of a batch that fits into memory: those of half a batch, but not those of all of it."""

Result = dict[str, Any]


class Options(msgspec.Struct, frozen=True):
    """What the command line selects.

    Attributes:
        device: `cpu` or `cuda`.
        precision: `float32` or `bfloat16`.
        size: How much is computed.
        threads: Of torch.
        folder: Where files are written.
    """

    device: str
    precision: str
    size: Size
    threads: int
    folder: Path

    def configured(self, config: RecipeConfig) -> Any:
        """A configuration with the device, the precision, the threads, and no evaluation within the run."""
        return msgspec.structs.replace(
            config, device=self.device, precision=self.precision, threads=self.threads, eval_steps=10**6
        )


# ---- the recipes


def recipes(options: Options) -> Result:
    """Train each recipe; its losses, and the score that has a standard error."""
    trained: dict[str, tuple[History, TaskScores, str]] = {
        "distilbert-mitre": (*_distilbert(options), "accuracy"),
        "phi3-mitre-lora": (*_phi3(options), "bits_saved"),
        "gnn-threat": (*_gnn(options), "ndcg_at_20"),
    }
    return {
        model: {
            "losses": [point.loss for point in history.points],
            "metric": metric,
            "score": scores.metrics[metric],
            "error": scores.errors[metric],
        }
        for model, (history, scores, metric) in trained.items()
    }


class _Encoder:
    """A new `distilbert-mitre`, and its training texts and holdout."""

    def __init__(self, options: Options, config: DistilbertConfig, words: int = 8) -> None:
        make_deterministic(config)
        base = encoder(options.folder, options.size)
        data = texts(options.size, words)
        self.train, self.holdout = data.train, data.old + data.recent
        self.config = config
        self.model = load_base(base, TACTICS, config)
        self.model.to(device_of(config)).eval()  # type: ignore[arg-type]
        every = texts_of(self.train + self.holdout)
        tokens = truncate(tokenize(load_tokenizer(base), every, MAX_TOKENS), MAX_TOKENS)
        self.hidden_states = HiddenStateCache(
            self.model, config.frozen_layers, tokens, PREDICTION_BATCH_SIZE, lambda *_: None
        )
        self.layers = TrainableLayers(self.model, config.frozen_layers)
        self.targets = label_targets(label_sets(self.train), TACTICS, range(len(self.train)))

    def fit(self, on_progress: ProgressCallback = no_progress, **more: Any) -> History:
        """Train it."""
        return train_encoder(
            self.layers, self.hidden_states, self.targets, TACTICS, self.config, on_progress, **more
        )

    def scores(self) -> TaskScores:
        """Its accuracy on the holdout, where each text has one tactic."""
        indices = range(len(self.train), len(self.train) + len(self.holdout))
        logits = encoder_logits(self.layers, self.hidden_states, indices, "scoring", no_progress)
        hits = [TACTICS[i] in e.labels for i, (_, e) in zip(logits.argmax(1), self.holdout, strict=True)]
        share = sum(hits) / len(hits)
        error = math.sqrt(share * (1 - share) / len(hits))
        return TaskScores(len(hits), {"accuracy": share}, errors={"accuracy": error})

    def weights(self) -> list[torch.Tensor]:
        """Its trained weights, on the CPU."""
        return [parameter.detach().cpu().clone() for parameter in self.layers.parameters()]


def _distilbert(options: Options) -> tuple[History, TaskScores]:
    rate = 4e-3 if options.size.width < 100 else 5e-4
    config = DistilbertConfig(
        epochs=options.size.epochs, batch_size=16, frozen_layers=0, learning_rate=rate, head_learning_rate=5e-3
    )
    run = _Encoder(options, options.configured(config))
    return run.fit(), run.scores()


def _phi3(options: Options) -> tuple[History, TaskScores]:
    from transformers import AutoTokenizer

    config: Phi3LoraConfig = options.configured(
        Phi3LoraConfig(epochs=options.size.epochs, batch_size=8, learning_rate=2e-3)
    )
    make_deterministic(config)
    base, device, data = phi3(options.folder, options.size), device_of(config), instructions(options.size)
    chat = Chat(AutoTokenizer.from_pretrained(base, local_files_only=True), config.max_tokens)
    scorer = LanguageModelScorer(load_model(base, None, config, device), device, precision_of(config, device))
    history = train_adapter(scorer, chat.encode(instructions_of(data.train)), config, no_progress)
    holdout = chat.encode(instructions_of(data.old + data.recent))
    return history, scorer.scores(holdout, "scoring", no_progress)


def _gnn(options: Options) -> tuple[History, TaskScores]:
    config: GnnConfig = options.configured(GnnConfig(epochs=5 * options.size.epochs, dropout=0.0))
    make_deterministic(config)
    data = graph(options.size)
    unseen = holdout_links(data)
    known = build_graph(graph_examples(data), unseen)
    vectors = torch.randn(len(known.nodes), options.size.text_dim, generator=torch.Generator().manual_seed(3))
    rows = {row.label for row in link_rows(known)}
    shape = extend_shape(
        first_shape(options.size.text_dim, config.width), options.size.text_dim, known, rows, TACTICS
    )
    device = device_of(config)
    network = ThreatGnn(shape, config.dropout).to(device)
    views = GraphViews(known, vectors, lambda part, own: View(part, own, shape, device), config)
    history = train_network(network, views, data, config, no_progress, None, lambda: {}, is_warm_start=False)
    cases, view = ranking_cases(views, unseen), views.around([], 0).view
    return history, ranking_scores(score_rows(network, view, cases.rows), cases.excluded, cases.hidden)


# ---- memory


def memory(options: Options) -> Result:
    """Train with a batch that is too large for memory; the losses must be those of a run with enough memory.

    On a GPU, the allocator of torch gets a limit. On a CPU the layers raise what the allocator would.
    """
    options = msgspec.structs.replace(options, size=replace(options.size, texts=3 * options.size.memory_batch))
    config = options.configured(
        DistilbertConfig(epochs=1, batch_size=options.size.memory_batch, frozen_layers=0, learning_rate=1e-3)
    )
    on_gpu = options.device == "cuda"
    words = MAX_TOKENS - 2 if on_gpu else 4
    roomy = _Encoder(options, config, words)
    before = torch.cuda.memory_allocated() if on_gpu else 0
    expected = roomy.fit()
    peak = torch.cuda.max_memory_allocated() if on_gpu else 0
    del roomy
    if on_gpu:
        torch.cuda.empty_cache()
        limit = before + MEMORY_SHARE * (peak - before)
        torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(0).total_memory)
    tight = _Encoder(options, config, words)
    if not on_gpu:
        tight.layers.register_forward_pre_hook(_raises_above(config.batch_size // 2))
    found = tight.fit()
    return {
        "batch": config.batch_size,
        "micro_batch": found.micro_batch_size,
        "allocator": "limited" if on_gpu else "simulated",
        "peak_mib": peak / 2**20,
        "expected": [point.loss for point in expected.points],
        "losses": [point.loss for point in found.points],
    }


def _raises_above(most: int) -> Callable[..., None]:
    def hook(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > most:
            raise torch.OutOfMemoryError(f"simulated: {len(inputs[0])} texts")

    return hook


# ---- checkpoint


class _Killed(BaseException):
    """The process is gone."""


def checkpoint(options: Options) -> Result:
    """Kill a run with dropout, resume it from its checkpoint, and compare it with one that was not killed."""
    config = options.configured(
        DistilbertConfig(
            epochs=1, batch_size=16, frozen_layers=0, learning_rate=1e-3, dropout=0.1, save_steps=4, pieces=1
        )
    )

    def dies(step: RunProgress) -> None:
        if step.phase == "training" and step.step == 10:
            raise _Killed

    straight = _Encoder(options, config)
    expected = straight.fit()
    folder = options.folder / "checkpoint"
    with contextlib.suppress(_Killed):
        _Encoder(options, config).fit(dies, checkpointer=FolderCheckpointer(folder, "it"))
    resumed_at: list[int] = []
    resumed = _Encoder(options, config)
    found = resumed.fit(lambda step: resumed_at.append(step.step), checkpointer=FolderCheckpointer(folder, "it"))
    return {
        "resumed_at": resumed_at[0],
        "steps": found.step,
        "expected": [point.loss for point in expected.points],
        "losses": [point.loss for point in found.points],
        "equal_weights": all(map(torch.equal, straight.weights(), resumed.weights())),
    }


# ---- the command


PARTS: dict[str, Callable[[Options], Result]] = {
    "recipes": recipes,
    "reference": lambda options: recipes(msgspec.structs.replace(options, device="cpu", precision="float32")),
    "memory": memory,
    "checkpoint": checkpoint,
    "ours": lambda options: ours(
        options.configured(Phi3LoraConfig(batch_size=8, learning_rate=1e-4)), options.size
    ),
    "trainer": lambda options: trainer(
        options.configured(Phi3LoraConfig(batch_size=8, learning_rate=1e-4)), options.size, options.folder
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that the command line names, and print a line of JSON for each."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu_sides", description=__doc__.splitlines()[0])
    parser.add_argument("device", choices=("cpu", "cuda"))
    parser.add_argument("precision", choices=("float32", "bfloat16"))
    parser.add_argument("size", choices=("full", "tiny"))
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    size = FULL if chosen.size == "full" else TINY
    for part in chosen.parts:
        with tempfile.TemporaryDirectory() as folder, quiet_transformers():
            result = PARTS[part](Options(chosen.device, chosen.precision, size, chosen.threads, Path(folder)))
        print(
            json.dumps({"part": part, "device": chosen.device, "precision": chosen.precision} | result), flush=True
        )


if __name__ == "__main__":
    main()
