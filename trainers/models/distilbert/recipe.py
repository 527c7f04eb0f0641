"""The recipe of `distilbert-mitre`: from examples to the folder of a version.

    1 load      the parent, or the base with a new head; token ids, hidden states and TF-IDF features of all texts
    2 score     the parent on examples that it has not seen: the fresh ones and the holdout; its probabilities
                become targets of examples without labels of a task
    3 mix       fresh and rehearsed examples, shuffled, in batches of similar length
    4 fit       the text regression, to convergence; the encoder by AdamW, with a linear warm-up and decay, and
                then perhaps its mean with the parent
    5 evaluate  the candidate and the baselines on the same holdout, each half calibrated on the other
    6 save      the weights, with a calibration that is fitted on the whole holdout

One encoder has one classifier for two tasks: tactics are trained as independent sigmoids, severities as a softmax
over theirs. Probabilities of tactics are conditioned on the text having at least one, as all training texts of that
task do. The text regression (`trainers.models.distilbert.network`) is fitted independently of the encoder, and
their logits are added.

The same examples, parent, configuration and number of threads give the same bytes on the same machine type: every
random number comes from the configuration's seed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch

from schemas.recipes.distilbert import DistilbertConfig
from schemas.scores import HOLDOUT, Evaluation, TaskScores, merge
from trainers.core.dataset import Dataset
from trainers.core.history import History
from trainers.core.holdout import Holdout
from trainers.core.loop import Checkpointer, device_of
from trainers.core.phases import NOT_MEASURED, Phases
from trainers.core.probabilities import FloatArray
from trainers.core.progress import ProgressCallback, RunProgress
from trainers.core.report import Report
from trainers.models.deterministic import make_deterministic
from trainers.models.distilbert import text_regression
from trainers.models.distilbert.card import PIPELINE, introduction
from trainers.models.distilbert.evaluation import (
    as_split,
    cross_fit,
    fit_calibrations,
    holdout_evaluation,
    label_scores,
    prequential_evaluation,
    task_scores,
    tfidf_logits,
    trivial_predictions,
)
from trainers.models.distilbert.head import (
    keep_labels,
    load_base,
    load_parent,
    model_labels,
    retired_labels,
    saved_labels,
)
from trainers.models.distilbert.hidden_states import HiddenStateCache, TrainableLayers
from trainers.models.distilbert.labels import label_sets, texts_of
from trainers.models.distilbert.network import DistilBertWithWords
from trainers.models.distilbert.objective import (
    cells_without_labels,
    distill,
    label_targets,
)
from trainers.models.distilbert.saving import fold_in_calibration, plot_precision_recall, save_version
from trainers.models.distilbert.tokenization import load_tokenizer, split_into_chunks, tokenize, truncate
from trainers.models.distilbert.training import (
    PREDICTION_BATCH_SIZE,
    average_with,
    copied_weights,
    encoder_logits,
    train_encoder,
)
from trainers.reporting.precision_recall import PICTURE

__all__ = ["BASE_ARCHITECTURE", "NEEDS_GRAPH_CONTEXT", "PIPELINE", "evaluate", "introduction", "run"]

BASE_ARCHITECTURE = "distilbert"
NEEDS_GRAPH_CONTEXT = False


def run(
    data: Dataset,
    labels: Sequence[str],
    base: Path,
    parent: Path | None,
    config: DistilbertConfig,
    folder: Path,
    on_progress: ProgressCallback,
    *,
    checkpointer: Checkpointer | None = None,
    phases: Phases = NOT_MEASURED,
) -> Report:
    """Train one version.

    Args:
        data: At least one example to train on; the holdout may be empty.
        labels: Labels that the model must know. It keeps those of its parent too, except retired ones.
        base: Folder of the base model, from which a first version starts.
        parent: Folder of the version to start from, or None. It is not changed.
        config: The configuration.
        folder: Where the version is written. It exists and is empty.
        on_progress: Called after every step. An exception that it raises ends the run.
        checkpointer: Loads and saves checkpoints, so that a killed run can resume; None for no checkpoints.
        phases: Measures how long each phase takes.

    Raises:
        ArithmeticError: The loss is not finite.
    """
    make_deterministic(config)
    train, holdout = data.train, data.old + data.recent
    # 1 load
    model = load_parent(parent, labels, config) if parent else load_base(base, labels, config)
    model.to(device_of(config)).eval()  # type: ignore[arg-type]
    texts = _load_texts(model, data, base, parent, config, on_progress)
    targets = label_targets(label_sets(train), model_labels(model.config), texts.chunk_examples)
    phases.start("score parent")  # 2 score the parent
    champion: Evaluation = {}
    if parent:
        champion, targets = _score_parent(model, texts, targets, data, parent, config, on_progress)
    phases.start("fit")  # 3 mix, 4 fit
    retired, kept = _retire_labels(model, data)
    known, targets = model_labels(model.config), targets[:, kept]
    precision = _fit_text_regression(model, texts, data, parent, config, on_progress)
    layers = TrainableLayers(model, config.frozen_layers)
    scorer = _HoldoutScorer(model, layers, texts, data, config, on_progress, phases)
    history = _fit_encoder(layers, texts, targets, known, config, on_progress, checkpointer, scorer, parent)
    phases.start("evaluate")  # 5 evaluate
    logits = scorer.logits
    candidate = holdout_evaluation(logits, data, known, config.threshold)
    trivial = label_scores(trivial_predictions(train, holdout, known), holdout, known)
    baseline = cross_fit(tfidf_logits(train, holdout, known, config.seed), holdout, known, config.threshold)
    phases.start("write")  # 6 save
    calibrations = fit_calibrations(logits, holdout, known, config.threshold)
    fold_in_calibration(model, calibrations)
    save_version(model, precision, texts.max_tokens, parent or base, folder)
    with phases.optional("draw", PICTURE):
        probabilities = cross_fit(logits, holdout, known, config.threshold).probabilities
        plot_precision_recall(probabilities, holdout, known, folder)
    return Report(
        labels=known,
        candidate=candidate,
        champion=champion,
        trivial_baseline=as_split(HOLDOUT, trivial),
        baselines={"tf-idf": as_split(HOLDOUT, task_scores(baseline, holdout, known))},
        history=history,
        details={
            "retired_labels": sorted(retired),
            "calibration": {task: msgspec.to_builtins(found) for task, found in calibrations.items()},
        },
    )


def evaluate(
    holdout: Holdout,
    parts: Sequence[Sequence[int]],
    version: Path,
    base: Path,  # noqa: ARG001  part of the interface
    config: DistilbertConfig,
    on_progress: ProgressCallback,
) -> list[dict[str, TaskScores]]:
    """Score a version on parts of a holdout; see `trainers.models.recipe.Recipe.evaluate`.

    Each half of the whole holdout is calibrated on the other, as in the evaluation of a run.
    """
    make_deterministic(config)
    model = load_parent(version, (), config)
    model.to(device_of(config)).eval()  # type: ignore[arg-type]
    max_tokens = min(config.max_tokens, model.config.max_position_embeddings)
    tokens = truncate(tokenize(load_tokenizer(version), texts_of(holdout.examples), max_tokens), max_tokens)
    states = HiddenStateCache(
        model, config.frozen_layers, tokens, PREDICTION_BATCH_SIZE, _report(on_progress, "computing hidden states")
    )
    layers = TrainableLayers(model, config.frozen_layers)
    logits = encoder_logits(layers, states, range(len(tokens)), "scoring the holdout", on_progress)
    counts = text_regression.count(tokens, model.words.vocabulary_size)
    logits = logits + text_regression.model_logits(model, text_regression.features_of(model, counts))
    labels = model_labels(model.config)
    found = cross_fit(logits, holdout.examples, labels, config.threshold)
    return [task_scores(found.of_rows(list(part)), [holdout.examples[i] for i in part], labels) for part in parts]


# ---- load


class _Texts(NamedTuple):
    """All texts of a run: first the chunks of the training examples, then the beginnings of the holdout examples.

    Attributes:
        hidden_states: Outputs of the frozen layers.
        features: (texts, features + 1), of the text regression.
        chunk_examples: The training example of each chunk, ascending; fresh examples come before rehearsed ones.
        fresh_chunks: Number of chunks, from the first, of fresh examples.
        max_tokens: Length of a chunk.
    """

    hidden_states: HiddenStateCache
    features: text_regression.Features
    chunk_examples: list[int]
    fresh_chunks: int
    max_tokens: int

    @property
    def chunks(self) -> int:
        """Number of chunks; the texts from here on are the holdout."""
        return len(self.chunk_examples)

    @property
    def holdout(self) -> range:
        """Indices of the holdout texts."""
        return range(self.chunks, len(self.hidden_states.lengths))


def _load_texts(
    model: DistilBertWithWords,
    data: Dataset,
    base: Path,
    parent: Path | None,
    config: DistilbertConfig,
    on_progress: ProgressCallback,
) -> _Texts:
    """Tokenize all texts and compute what does not change during the run. A first version learns its IDF here."""
    tokenizer = load_tokenizer(parent or base)
    max_tokens = min(config.max_tokens, model.config.max_position_embeddings)
    chunks = split_into_chunks(tokenize(tokenizer, texts_of(data.train), max_tokens), max_tokens, config.pieces)
    holdout = truncate(tokenize(tokenizer, texts_of(data.old + data.recent), max_tokens), max_tokens)
    tokens = chunks.tokens + holdout
    hidden_states = HiddenStateCache(
        model, config.frozen_layers, tokens, PREDICTION_BATCH_SIZE, _report(on_progress, "computing hidden states")
    )
    counts = text_regression.count(tokens, model.words.vocabulary_size)
    if not parent:
        text_regression.fit_idf(model, counts[: len(chunks.tokens)])
    fresh_chunks = bisect_left(chunks.texts, len(data.fresh))
    features = text_regression.features_of(model, counts)
    return _Texts(hidden_states, features, chunks.texts, fresh_chunks, max_tokens)


def _report(on_progress: ProgressCallback, phase: str) -> Callable[[int, int], None]:
    return lambda done, steps: on_progress(RunProgress(phase, done, steps))


# ---- score the parent


def _score_parent(
    model: DistilBertWithWords,
    texts: _Texts,
    targets: torch.Tensor,
    data: Dataset,
    parent: Path,
    config: DistilbertConfig,
    on_progress: ProgressCallback,
) -> tuple[Evaluation, torch.Tensor]:
    """Score the parent, and put its probabilities into the targets. Rehearsed chunks are scored only if needed."""
    labels = model_labels(model.config)
    cells = cells_without_labels(targets, labels, saved_labels(parent))
    scored_chunks = texts.chunks if cells.any() or config.distillation else texts.fresh_chunks
    scored = [*range(scored_chunks), *texts.holdout]
    layers = TrainableLayers(model, config.frozen_layers)
    logits = encoder_logits(layers, texts.hidden_states, scored, "scoring the champion", on_progress)
    logits = logits + text_regression.model_logits(model, texts.features[scored])
    chunk_logits, holdout_logits = logits[:scored_chunks], logits[scored_chunks:]
    first_chunks = [bisect_left(texts.chunk_examples, example) for example in range(len(data.fresh))]
    champion = merge(
        holdout_evaluation(holdout_logits, data, labels, config.threshold),
        prequential_evaluation(chunk_logits[first_chunks], data.fresh, labels, parent, config.threshold),
    )
    return champion, distill(targets, cells, chunk_logits, labels, texts.fresh_chunks, config.distillation)


# ---- fit


def _retire_labels(model: DistilBertWithWords, data: Dataset) -> tuple[frozenset[str], list[int]]:
    """Drop the labels that no example has any more. Returns them, and the columns of the labels that are kept."""
    labels = model_labels(model.config)
    retired = retired_labels(labels, data)
    kept = [i for i, label in enumerate(labels) if label not in retired]
    keep_labels(model, kept)
    return retired, kept


def _fit_text_regression(
    model: DistilBertWithWords,
    texts: _Texts,
    data: Dataset,
    parent: Path | None,
    config: DistilbertConfig,
    on_progress: ProgressCallback,
) -> torch.Tensor:
    """Fit the text regression in place. Returns the precision of its weights, (features + 1, labels), bfloat16."""
    sets = label_sets(data.train)
    return text_regression.fit_model(
        model,
        texts.features[: texts.chunks],
        [sets[example] for example in texts.chunk_examples],
        texts.fresh_chunks,
        parent,
        config.words,
        _report(on_progress, "fitting the text regression"),
    )


class _HoldoutScorer:
    """Scores the candidate on the holdout during training.

    Attributes:
        logits: (holdout examples, labels), float64, of the latest evaluation.
    """

    logits: FloatArray

    def __init__(
        self,
        model: DistilBertWithWords,
        layers: TrainableLayers,
        texts: _Texts,
        data: Dataset,
        config: DistilbertConfig,
        on_progress: ProgressCallback,
        phases: Phases,
    ) -> None:
        self._phases = phases
        self._layers, self._texts, self._config, self._on_progress = layers, texts, config, on_progress
        self._holdout = data.old + data.recent
        self._labels = model_labels(model.config)
        self._regression_logits = text_regression.model_logits(model, texts.features[texts.chunks :])

    def __call__(self) -> Mapping[str, TaskScores]:
        """Task -> scores, cross-fitted."""
        with self._phases.within("evaluate"):
            return self._scores()

    def _scores(self) -> dict[str, TaskScores]:
        texts = self._texts
        from_encoder = encoder_logits(
            self._layers, texts.hidden_states, texts.holdout, "scoring the candidate", self._on_progress
        )
        self.logits = from_encoder + self._regression_logits
        predictions = cross_fit(self.logits, self._holdout, self._labels, self._config.threshold)
        return task_scores(predictions, self._holdout, self._labels)


def _fit_encoder(
    layers: TrainableLayers,
    texts: _Texts,
    targets: torch.Tensor,
    labels: Sequence[str],
    config: DistilbertConfig,
    on_progress: ProgressCallback,
    checkpointer: Checkpointer | None,
    evaluate: Callable[[], Mapping[str, TaskScores]],
    parent: Path | None,
) -> History:
    """Train the layers and the head in place on `targets`, (chunks, labels), 0 to 1; then the mean with the parent.

    The last evaluation is that of the weights that are saved.
    """
    before = copied_weights(layers) if parent and config.parent_share else {}
    history = train_encoder(
        layers, texts.hidden_states, targets, labels, config, on_progress, checkpointer, evaluate,
        is_warm_start=parent is not None,
    )  # fmt: skip
    if parent and before:
        of_parent = saved_labels(parent)
        known = [row for row, label in enumerate(labels) if label in of_parent]
        average_with(layers, before, config.parent_share, known)
        evaluate()
    return history
