"""The recipe of `distilbert-mitre`: the tactics and the severity of a text, from examples to a folder.

    1 load      the parent, or the base with a new head; rows for new labels; what the frozen layers say of texts,
                of which the long ones are trained on in pieces
    2 score     the parent on what it has not seen: the fresh examples, and the holdout; what it says of examples
                without labels of a task is what they teach of it
    3 mix       fresh and rehearsal examples, shuffled, in batches of similar length
    4 fit       the regression on words, to the end; the encoder by AdamW, with a linear warm-up and decay
    5 evaluate  the candidate and the TF-IDF baseline on the same holdout, each half of it calibrated on the other
    6 save      model.safetensors and config.json, calibrated on all of the holdout; tokenizer.json, the picture

One encoder, two heads: tactics are learnt as a sigmoid each, the severities as a softmax over theirs. Both are rows
of one classifier, those of the severities named `severity:high`. An example without labels of a task gives that
head nothing to learn but what the parent says, where it knew the task. The probabilities of tactics are those given
that the text has at least one, as all have that are learnt from.

Beside the encoder stands a logistic regression on the words (`trainers.models.distilbert.network`); each learns by itself,
and their logits are added.

The folder loads with `AutoModelForSequenceClassification` and `trust_remote_code`; the calibration is folded into
its weights, so whoever loads it gets calibrated probabilities. The same examples, parent, configuration and thread
count give the same bytes on the same machine type: every random number comes from `Config.seed`.
"""

from __future__ import annotations

import random
import shutil
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import nn
from transformers import DistilBertConfig, DistilBertModel

from schemas.scores import (
    HOLDOUT,
    OLD,
    PREQUENTIAL,
    RECENT,
    SEVERITY,
    TACTICS,
    Evaluation,
    TaskScores,
    merge,
)
from schemas.taxonomy import is_severity
from schemas.versions import Manifest
from trainers.bases.layout import TOKENIZER_FILES
from trainers.bases.quiet import quiet_transformers
from trainers.core.baselines.tfidf import tfidf_logistic_regression
from trainers.core.calibration import (
    Calibration,
    at_least_one,
    expected_calibration_error,
    fit_sigmoid,
    fit_softmax,
    folds,
    sigmoid,
    softmax,
)
from trainers.core.dataset import Dataset, OffsetExample
from trainers.core.history import History
from trainers.core.loop import Checkpointer, device_of, fit, make_deterministic
from trainers.core.metrics.classification import (
    TASKS,
    LabelMatrix,
    classification_scores,
    extend_labels,
    label_matrix,
    most_frequent_labels,
)
from trainers.core.progress import ProgressCallback, RunProgress, no_progress
from trainers.core.report import Report
from trainers.models.distilbert import text_regression as words
from trainers.models.distilbert.config import DistilbertConfig
from trainers.models.distilbert.hidden_states import Above, Inputs, by_length
from trainers.models.distilbert.network import DistilBertWithWords, Words
from trainers.reporting.precision_recall import Panel, save_precision_recall

Tokens = list[list[int]]
"""Token ids of each text, from [CLS] to [SEP], not padded."""
Logits = npt.NDArray[np.float64]
"""(texts, labels)"""

SORTED_BATCHES = 20
"""So many batches are cut from one sorted piece of the shuffled examples: little padding, still random order."""
PREDICTION_BATCH = 64
BIAS_OF_NEW_LABEL = -2.0
"""A new label starts at a probability of 0.12, about how often a tactic occurs, not at 0.5."""
CHARS_PER_TOKEN, MAX_PIECES = 20, 16
"""A text of more than so many characters for each token that could be read is cut before it is tokenised: ATT&CK's
prose has 5 to a token."""

Config = DistilbertConfig
BASE_ARCHITECTURE = "distilbert"
NEEDS_GRAPH_CONTEXT = False
PRECISION = "words_precision.safetensors"
"""How sure the weights of the regression on words are, for a child to go on from."""


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
) -> Report:
    """Train one version.

    Args:
        data: At least one example to train on.
        labels: What the model must know; it keeps those of its parent as well, but for retired ones.
        base: Folder of the base model; a first version starts from it.
        parent: Folder of the version to start from, or None. It is not changed.
        config: See `DistilbertConfig`.
        folder: Where the version is written; exists and is empty.
        on_progress: Called after every step; what it raises ends the run.
        checkpointer: Loads and saves the checkpoint of a killed run; None for none.

    Raises:
        ArithmeticError: The loss is not a finite number any more.
    """
    make_deterministic(config)
    source = parent or base
    train, holdout = data.train, data.old + data.recent

    # 1 load
    model = _load_parent(parent, labels, config) if parent else _load_base(base, labels, config)
    model.to(device_of(config)).eval()
    known = _labels(model)
    tokenizer = _tokenizer(source, min(config.max_tokens, model.config.max_position_embeddings))
    pieces, whose = _pieces(_encode(tokenizer, _texts(train)), tokenizer.max_tokens, config.pieces)
    tokens = pieces + _cut(_encode(tokenizer, _texts(holdout)), tokenizer.max_tokens)
    inputs = _inputs(model, tokens, config, on_progress)
    judged = range(len(pieces), len(tokens))
    features = _features(model, tokens, idf_of=0 if parent else len(pieces))
    fresh = bisect_left(whose, len(data.fresh))

    # 2 score the parent
    champion: Evaluation = {}
    targets = torch.from_numpy(label_matrix(_label_sets(train), known)[whose]).float()  # (pieces, labels)
    if parent:
        cells = _for_the_parent_to_say(targets, known, _known_to(parent))
        asked = range(len(pieces) if cells.any() or config.distillation else fresh)
        above = Above(model, config.frozen_layers)
        texts = [*asked, *judged]
        before = _predict(above, inputs, texts, "scoring the champion", on_progress) + _words_say(
            model, features[texts]
        )
        first = [bisect_left(whose, example) for example in range(len(data.fresh))]
        champion = merge(
            _judge(before[len(asked) :], data, known, config),
            _prequential(before[first], data.fresh, known, parent, config),
        )
        said = torch.from_numpy(_probabilities(before[: len(asked)], known)).float()
        targets[: len(asked)][cells[: len(asked)]] = said[cells[: len(asked)]]
        targets[fresh : len(asked)].lerp_(said[fresh:], config.distillation)

    # 3 mix, 4 fit
    retired = _retired(known, data)
    kept = [i for i, label in enumerate(known) if label not in retired]
    _keep_rows(model, kept)
    known, targets = _labels(model), targets[:, kept]
    precision = _fit_words(
        model, features[: len(pieces)], [train[i] for i in whose], fresh, parent, config, on_progress
    )
    by_words = _words_say(model, features[len(pieces) :])
    above = Above(model, config.frozen_layers)
    latest: dict[str, Logits] = {}

    def evaluate() -> Mapping[str, TaskScores]:
        latest["holdout"] = _predict(above, inputs, judged, "scoring the candidate", on_progress) + by_words
        probabilities, predicted = _cross_fitted(latest["holdout"], holdout, known, config)
        return _scores(predicted, probabilities, holdout, known)

    history = _fit(above, inputs, targets, known, config, on_progress, checkpointer, evaluate, parent)

    # 5 evaluate
    logits = latest["holdout"]
    candidate = _judge(logits, data, known, config)
    trivial = _scores(_most_frequent(train, holdout, known), None, holdout, known)
    baseline = _cross_fitted(_tfidf(train, holdout, known, config), holdout, known, config)

    # 6 save
    calibrations = _calibrate(logits, holdout, known, config)
    _fold_in(model, calibrations)
    _save(model, precision, source, folder)
    _draw(_cross_fitted(logits, holdout, known, config)[0], holdout, known, folder)
    return Report(
        labels=known,
        candidate=candidate,
        champion=champion,
        trivial_baseline=_on(HOLDOUT, trivial),
        baselines={"tf-idf": _on(HOLDOUT, _scores(baseline[1], baseline[0], holdout, known))},
        history=history,
        details={
            "retired_labels": sorted(retired),
            "calibration": {task: msgspec.to_builtins(c) for task, c in calibrations.items()},
        },
    )


# ---- load


def _dropouts(config: Config) -> dict[str, float]:
    return dict.fromkeys(("dropout", "attention_dropout", "seq_classif_dropout"), config.dropout)


def _load_base(base: Path, labels: Sequence[str], config: Config) -> DistilBertWithWords:
    """The base with a head of random weights."""
    with quiet_transformers():
        settings = DistilBertConfig.from_pretrained(base, **_dropouts(config))
        _name_labels(settings, labels)
        model = DistilBertWithWords(settings)
        model.distilbert.load_state_dict(DistilBertModel.from_pretrained(base).state_dict())
    _initialise(model.pre_classifier, 0.0, config)
    _initialise(model.classifier, BIAS_OF_NEW_LABEL, config)
    return model


def _load_parent(parent: Path, labels: Sequence[str], config: Config) -> DistilBertWithWords:
    """The parent; its head gets a row more for each label that it doesn't know, after its own."""
    with quiet_transformers():
        model = DistilBertWithWords.from_pretrained(
            parent, use_safetensors=True, local_files_only=True, **_dropouts(config)
        )
    known = _labels(model)
    wanted = extend_labels(known, [labels])
    grown = nn.Linear(model.config.dim, len(wanted))  # (labels, dim)
    _initialise(grown, BIAS_OF_NEW_LABEL, config)
    with torch.no_grad():
        grown.weight[: len(known)] = model.classifier.weight
        grown.bias[: len(known)] = model.classifier.bias
    _set_head(model, grown, wanted, range(len(known)))
    return model


def _retired(known: Sequence[str], data: Dataset) -> frozenset[str]:
    """The labels that nothing stands for any more, so that the head drops their rows.

    The rehearsal has examples of every label that still stands (the fold keeps its sample by label). So where a run
    rehearses, a label that neither it, nor the windows, nor the holdout has was taken back from all that had it, as
    when ATT&CK 19 split `defense-evasion`. Without a rehearsal nothing can be said, and every label stays.
    """
    if not data.rehearsal:
        return frozenset()
    stand = {label for _, example in data.train + data.old + data.recent for label in example.labels}
    return frozenset(known) - stand


def _keep_rows(model: DistilBertWithWords, kept: Sequence[int]) -> None:
    """Leave only some labels in the head, in their order."""
    labels = _labels(model)
    if len(kept) == len(labels):
        return
    head = nn.Linear(model.config.dim, len(kept), device=model.classifier.weight.device)
    with torch.no_grad():
        head.weight.copy_(model.classifier.weight[list(kept)])
        head.bias.copy_(model.classifier.bias[list(kept)])
    _set_head(model, head, [labels[i] for i in kept], kept)


def _set_head(model: DistilBertWithWords, head: nn.Linear, labels: Sequence[str], columns: Sequence[int]) -> None:
    """Give the encoder another head; `columns` of the regression on words stay, as the first ones."""
    model.classifier, model.num_labels = head, len(labels)
    before = model.words
    model.words = Words(before.vocabulary, len(labels)).to(before.weight.device)
    with torch.no_grad():
        model.words.weight[:, : len(columns)] = before.weight[:, list(columns)]
        model.words.bias[: len(columns)] = before.bias[list(columns)]
        model.words.scale[: len(columns)] = before.scale[list(columns)]
        model.words.idf.copy_(before.idf)
    _name_labels(model.config, labels)


def _initialise(layer: nn.Linear, bias: float, config: Config) -> None:
    generator = torch.Generator().manual_seed(config.seed)
    nn.init.normal_(layer.weight, std=0.02, generator=generator)
    nn.init.constant_(layer.bias, bias)


def _name_labels(settings: DistilBertConfig, labels: Sequence[str]) -> None:
    settings.id2label = dict(enumerate(labels))
    settings.label2id = {label: i for i, label in enumerate(labels)}
    settings.problem_type = "multi_label_classification"
    settings.at_least_one = [i for i, label in enumerate(labels) if not is_severity(label)]


def _labels(model: DistilBertWithWords) -> tuple[str, ...]:
    return tuple(model.config.id2label[i] for i in range(len(model.config.id2label)))


def _known_to(parent: Path) -> tuple[str, ...]:
    settings = DistilBertConfig.from_pretrained(parent)
    return tuple(settings.id2label.values())


class _Tokenizer(NamedTuple):
    tokenizer: Tokenizer
    max_tokens: int


def _tokenizer(folder: Path, max_tokens: int) -> _Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILES[0]))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return _Tokenizer(tokenizer, max_tokens)


def _encode(tokenizer: _Tokenizer, texts: Sequence[str]) -> Tokens:
    """Token ids of all of each text, up to what could ever be a piece."""
    longest = tokenizer.max_tokens * MAX_PIECES * CHARS_PER_TOKEN
    return [encoding.ids for encoding in tokenizer.tokenizer.encode_batch([text[:longest] for text in texts])]


def _cut(tokens: Tokens, max_tokens: int) -> Tokens:
    """The beginning of each text, at most `max_tokens` with [CLS] and [SEP]."""
    return [ids if len(ids) <= max_tokens else [*ids[: max_tokens - 1], ids[-1]] for ids in tokens]


def _pieces(tokens: Tokens, max_tokens: int, pieces: int) -> tuple[Tokens, list[int]]:
    """Each text in at most so many pieces of `max_tokens` with [CLS] and [SEP], one after the other.

    What would be a last piece of less than a quarter is left out.

    Returns:
        The pieces in the order of the texts, at least one of each, and which text each is of.
    """
    out: Tokens = []
    whose: list[int] = []
    size = max_tokens - 2
    for number, ids in enumerate(tokens):
        begins, words, ends = ids[:1], ids[1:-1], ids[-1:]
        for start in range(0, max(1, min(len(words), pieces * size)), size):
            piece = words[start : start + size]
            if start and len(piece) < size / 4:
                continue
            out.append([*begins, *piece, *ends])
            whose.append(number)
    return out, whose


def _inputs(
    model: DistilBertWithWords,
    tokens: Tokens,
    config: Config,
    on_progress: ProgressCallback,
    phase: str = "reading",
) -> Inputs:
    return Inputs(
        model,
        config.frozen_layers,
        tokens,
        PREDICTION_BATCH,
        lambda done, of: on_progress(RunProgress(phase, done, of)),
    )


# ---- words


def _features(model: DistilBertWithWords, tokens: Tokens, idf_of: int = 0) -> words.Features:
    """What the regression reads of texts.

    Args:
        idf_of: From so many texts, the first ones, the model learns how rare words are; 0: it knows.
    """
    counts = words.count(tokens, model.words.vocabulary)
    if idf_of:
        _set(model.words.idf, words.inverse_frequencies(counts[:idf_of]))
    return words.weigh(counts, _array(model.words.idf))


def _fit_words(
    model: DistilBertWithWords,
    features: words.Features,
    placed: Sequence[OffsetExample],
    fresh: int,
    parent: Path | None,
    config: Config,
    on_progress: ProgressCallback,
) -> torch.Tensor:
    """Fit the regression on words in place.

    Args:
        features: Of the pieces to train on.
        placed: The example of each piece.
        fresh: So many pieces, the first ones, are of examples that nobody trained on before.

    Returns:
        (features, labels), how sure the weights are now.
    """
    labels = _labels(model)
    mean = _words_mean(model)
    before = words.Weights(mean, words.Weights.unknown(len(mean) - 1, len(labels)).precision)
    if parent:
        saved = _array(load_file(parent / PRECISION)["precision"])
        for column, label in enumerate(_known_to(parent)):
            if label in labels:
                before.precision[:, labels.index(label)] = saved[:, column]
    groups: list[tuple[Sequence[int], Sequence[int]]] = []
    for task, columns in _columns(labels).items():
        rows = _rows(placed, task)
        groups += [(columns, rows)] if task == SEVERITY else [([column], rows) for column in columns]
    found = before
    if config.words:
        found = words.fit(
            features, label_matrix(_label_sets(placed), labels), groups, before, fresh,
            lambda done, of: on_progress(RunProgress("weighing words", done, of)),
        )  # fmt: skip
    _set(model.words.weight, found.mean[:-1])
    _set(model.words.bias, found.mean[-1])
    nn.init.constant_(model.words.scale, config.words)
    return torch.from_numpy(found.precision).to(torch.bfloat16)


def _words_say(model: DistilBertWithWords, features: words.Features) -> Logits:
    """What the regression adds to the encoder's logits, (texts, labels)."""
    said: Logits = _array(model.words.scale) * (features @ _words_mean(model))
    return said


def _words_mean(model: DistilBertWithWords) -> npt.NDArray[np.float64]:
    """(features + 1, labels), the bias last."""
    return np.vstack([_array(model.words.weight), _array(model.words.bias)])


def _array(values: torch.Tensor) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = values.detach().cpu().double().numpy()
    return found


def _set(parameter: nn.Parameter, values: npt.NDArray[np.float64]) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(values))


# ---- fit


def _fit(
    above: Above,
    inputs: Inputs,
    targets: torch.Tensor,
    labels: Sequence[str],
    config: Config,
    on_progress: ProgressCallback,
    checkpointer: Checkpointer | None,
    evaluate: Callable[[], Mapping[str, float]],
    parent: Path | None,
) -> History:
    """Train in place. `targets` is (pieces, labels), 0 to 1; piece i is text i of the inputs."""
    order = random.Random(config.seed)
    plan = [_batches(inputs.lengths[: len(targets)], config.batch_size, order) for _ in range(config.epochs)]
    severity = _severity_columns(labels)

    def loss(wrapped: nn.Module, batch: Sequence[int]) -> torch.Tensor:
        logits = _forward(wrapped, inputs, batch)
        return _loss(logits, targets[list(batch)].to(logits.device), severity.to(logits.device))

    return fit(
        above, plan, loss, _parameter_groups(above, config, parent), config, on_progress,
        checkpointer=checkpointer, evaluate=evaluate,
    )  # fmt: skip


def _for_the_parent_to_say(targets: torch.Tensor, labels: Sequence[str], knew: Collection[str]) -> torch.Tensor:
    """Which targets are the parent's probabilities: those of a task that it knew, of examples without labels of it.

    Without them a window with severities alone makes the encoder forget the tactics (Li and Hoiem 2016, Learning
    without Forgetting).

    Args:
        targets: (examples, labels) of 0.0 and 1.0.
        labels: Of the columns.
        knew: Labels of the parent.

    Returns:
        (examples, labels), boolean.
    """
    cells = torch.zeros_like(targets, dtype=torch.bool)
    for belongs in TASKS.values():
        if any(map(belongs, knew)):
            columns = torch.tensor([belongs(label) for label in labels])
            cells |= ~targets[:, columns].any(1, keepdim=True) & columns
    return cells


def _loss(logits: torch.Tensor, targets: torch.Tensor, severity: torch.Tensor) -> torch.Tensor:
    """Minus the log-likelihood of the labels of some examples, by the mean over columns: the sum over examples.

    Args:
        logits, targets: (batch, labels).
        severity: (labels,), True for the columns of the severities.
    """
    tactics = targets[:, ~severity]
    each = nn.functional.binary_cross_entropy_with_logits(logits[:, ~severity], tactics, reduction="none")
    loss = (each * tactics.any(1, keepdim=True)).sum()
    if severity.any():
        loss = loss - (targets[:, severity] * logits[:, severity].log_softmax(1)).sum()
    return loss / logits.shape[1]


def _severity_columns(labels: Sequence[str]) -> torch.Tensor:
    return torch.tensor([is_severity(label) for label in labels])


def _parameter_groups(above: Above, config: Config, parent: Path | None) -> list[dict[str, object]]:
    """The layers above the frozen ones, and the head, each with its learning rate."""
    share = config.warm_start_lr_scale if parent else 1.0
    layers = list(above.layers.parameters())
    head = [*above.pre_classifier.parameters(), *above.classifier.parameters()]
    return [
        {"params": layers, "lr": config.learning_rate * share},
        {"params": head, "lr": config.head_learning_rate * share},
    ]


def _batches(lengths: Sequence[int], size: int, order: random.Random) -> list[list[int]]:
    """One epoch: every example once, in shuffled batches of similar length."""
    shuffled = order.sample(range(len(lengths)), len(lengths))
    piece = size * SORTED_BATCHES
    batches: list[list[int]] = []
    for start in range(0, len(shuffled), piece):
        similar = sorted(shuffled[start : start + piece], key=lambda i: lengths[i])
        batches += [similar[i : i + size] for i in range(0, len(similar), size)]
    order.shuffle(batches)
    return batches


def _forward(above: nn.Module, inputs: Inputs, batch: Sequence[int]) -> torch.Tensor:
    hidden, mask = inputs.batch(batch)
    device = next(above.parameters()).device
    logits: torch.Tensor = above(hidden.to(device), mask.to(device))
    return logits


# ---- evaluate


def _predict(
    above: Above, inputs: Inputs, texts: Sequence[int], phase: str, on_progress: ProgressCallback
) -> Logits:
    """Logits of some texts of the inputs, in their order."""
    out = np.zeros((len(texts), above.classifier.out_features))
    batches = by_length([inputs.lengths[i] for i in texts], PREDICTION_BATCH)
    above.eval()
    with torch.inference_mode():
        for step, batch in enumerate(batches, 1):
            out[batch] = _forward(above, inputs, [texts[i] for i in batch]).cpu().numpy()
            on_progress(RunProgress(phase, step, len(batches)))
    return out


Decisions = tuple[npt.NDArray[np.float64], LabelMatrix]
"""Probabilities, and what is predicted, of some texts: both (texts, labels)."""
Calibrations = Mapping[str, Calibration]
"""By task."""


def _columns(labels: Sequence[str]) -> dict[str, list[int]]:
    """The columns of each task that there are labels of."""
    found = {task: [i for i, label in enumerate(labels) if belongs(label)] for task, belongs in TASKS.items()}
    return {task: columns for task, columns in found.items() if columns}


def _rows(placed: Sequence[OffsetExample], task: str) -> list[int]:
    """The examples that have a label of a task."""
    return [row for row, names in enumerate(_label_sets(placed)) if any(map(TASKS[task], names))]


def _calibrate(
    logits: Logits, placed: Sequence[OffsetExample], labels: Sequence[str], config: Config
) -> Calibrations:
    """Fit each task on the examples that have labels of it."""
    truth = label_matrix(_label_sets(placed), labels)
    out: dict[str, Calibration] = {}
    for task, columns in _columns(labels).items():
        cells = np.ix_(_rows(placed, task), columns)
        if task == SEVERITY:
            cells = np.ix_([row for row in _rows(placed, task) if truth[row, columns].any()], columns)
            out[task] = fit_softmax(logits[cells], truth[cells])
        else:
            out[task] = fit_sigmoid(logits[cells], truth[cells], config.threshold)
    return out


def _decide(logits: Logits, labels: Sequence[str], calibrations: Calibrations) -> Decisions:
    """What logits say once they are calibrated."""
    probabilities, predicted = np.zeros(logits.shape), np.zeros(logits.shape, dtype=np.bool_)
    for task, columns in _columns(labels).items():
        fitted = calibrations[task]
        scaled = fitted.scale * logits[:, columns] + fitted.shift
        if task == SEVERITY:
            probabilities[:, columns] = softmax(scaled)
            predicted[np.arange(len(logits)), np.array(columns)[scaled.argmax(1)]] = True
        else:
            probabilities[:, columns] = at_least_one(scaled)
            predicted[:, columns] = probabilities[:, columns] >= np.array(fitted.thresholds)
    return probabilities, predicted


def _cross_fitted(
    logits: Logits, placed: Sequence[OffsetExample], labels: Sequence[str], config: Config
) -> Decisions:
    """What logits of the holdout say, each half of it calibrated on the other."""
    half = folds([example.key for _, example in placed])
    probabilities, predicted = np.zeros(logits.shape), np.zeros(logits.shape, dtype=np.bool_)
    for side in (half, ~half):
        others = [at for at, here in zip(placed, side, strict=True) if not here]
        fitted = _calibrate(logits[~side], others, labels, config)
        probabilities[side], predicted[side] = _decide(logits[side], labels, fitted)
    return probabilities, predicted


def _judge(logits: Logits, data: Dataset, labels: Sequence[str], config: Config) -> Evaluation:
    """Scores of the splits, from the logits of the old holdout examples and then the recent ones."""
    holdout = data.old + data.recent
    probabilities, predicted = _cross_fitted(logits, holdout, labels, config)
    splits = {OLD: slice(len(data.old)), RECENT: slice(len(data.old), None), HOLDOUT: slice(None)}
    return merge(
        *(
            _on(split, _scores(predicted[part], probabilities[part], holdout[part], labels))
            for split, part in splits.items()
        )
    )


def _prequential(
    logits: Logits, placed: Sequence[OffsetExample], labels: Sequence[str], parent: Path, config: Config
) -> Evaluation:
    """Scores of the parent, as it serves, on examples that it never saw."""
    saved = _thresholds(DistilBertConfig.from_pretrained(parent))
    thresholds = tuple(saved.get(label, config.threshold) for label in labels if not is_severity(label))
    serves = {TACTICS: Calibration(thresholds=thresholds), SEVERITY: Calibration()}
    probabilities, predicted = _decide(logits, labels, serves)
    return _on(PREQUENTIAL, _scores(predicted, probabilities, placed, labels))


def _on(split: str, scores: Mapping[str, TaskScores]) -> Evaluation:
    """The scores of one split as an evaluation."""
    return {task: {split: found} for task, found in scores.items()}


def _scores(
    predicted: LabelMatrix,
    probabilities: npt.NDArray[np.float64] | None,
    placed: Sequence[OffsetExample],
    labels: Sequence[str],
) -> dict[str, TaskScores]:
    """Scores of some examples in each task that the model knows labels of; with probabilities, their error too."""
    truth = _label_sets(placed)
    out: dict[str, TaskScores] = {}
    for task, columns in _columns(labels).items():
        rows = _rows(placed, task)
        wanted = [[name for name in truth[row] if TASKS[task](name)] for row in rows]
        everything = extend_labels([labels[i] for i in columns], wanted)
        true = label_matrix(wanted, everything)
        said = np.zeros(true.shape, dtype=np.bool_)
        said[:, : len(columns)] = predicted[np.ix_(rows, columns)]
        found = classification_scores(true, said, everything)
        if probabilities is not None and rows:
            sure, right = probabilities[np.ix_(rows, columns)], true[:, : len(columns)]
            if task == SEVERITY:
                sure, right = sure[said[:, : len(columns)]], right[said[:, : len(columns)]]
            found = msgspec.structs.replace(found, extra={"ece": expected_calibration_error(sure, right)})
        out[task] = found
    return out


def _most_frequent(
    train: Sequence[OffsetExample], holdout: Sequence[OffsetExample], labels: Sequence[str]
) -> LabelMatrix:
    """What names the most frequent labels of each task for everything."""
    frequent: list[str] = []
    for belongs in TASKS.values():
        of_task = [[label for label in names if belongs(label)] for names in _label_sets(train)]
        frequent += most_frequent_labels(names for names in of_task if names)
    return label_matrix([frequent] * len(holdout), labels)


def _tfidf(
    train: Sequence[OffsetExample], holdout: Sequence[OffsetExample], labels: Sequence[str], config: Config
) -> Logits:
    """Logits of the holdout by TF-IDF and logistic regressions, trained on the same examples."""
    sets = _label_sets(train)
    counts = np.zeros((len(train), len(labels)), dtype=np.bool_)
    for task, columns in _columns(labels).items():
        counts[np.ix_(_rows(train, task), columns)] = True
    return tfidf_logistic_regression(
        _texts(train), label_matrix(sets, labels), counts, _texts(holdout), config.seed
    )


def _label_sets(placed: Sequence[OffsetExample]) -> list[tuple[str, ...]]:
    return [example.labels for _, example in placed]


def _texts(placed: Sequence[OffsetExample]) -> list[str]:
    return [example.text for _, example in placed]


def _probabilities(logits: Logits, labels: Sequence[str]) -> npt.NDArray[np.float64]:
    """As they are learnt, a tactic by itself, without a calibration."""
    out = np.zeros(logits.shape)
    for task, columns in _columns(labels).items():
        out[:, columns] = softmax(logits[:, columns]) if task == SEVERITY else sigmoid(logits[:, columns])
    return out


# ---- save


def _fold_in(model: DistilBertWithWords, calibrations: Calibrations) -> None:
    """Put the calibration into the rows of the classifier, and the thresholds into the configuration."""
    labels = _labels(model)
    thresholds: dict[str, float] = {}
    with torch.no_grad():
        for task, columns in _columns(labels).items():
            fitted = calibrations[task]
            model.classifier.weight[columns] *= fitted.scale
            model.classifier.bias[columns] *= fitted.scale
            model.classifier.bias[columns] += fitted.shift
            model.words.scale[columns] *= fitted.scale
            thresholds |= zip((labels[i] for i in columns), fitted.thresholds, strict=False)
    model.config.thresholds = thresholds


def _thresholds(settings: DistilBertConfig) -> dict[str, float]:
    return dict(getattr(settings, "thresholds", None) or {})


def _save(model: DistilBertWithWords, precision: torch.Tensor, source: Path, folder: Path) -> None:
    """Weights and how sure the words' are, configuration, code, and the tokenizer as it came."""
    model.cpu().eval()
    with quiet_transformers():
        model.save_pretrained(folder)
    save_file({"precision": precision}, folder / PRECISION)
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def _draw(
    probabilities: npt.NDArray[np.float64], placed: Sequence[OffsetExample], labels: Sequence[str], folder: Path
) -> None:
    panels = []
    truth = label_matrix(_label_sets(placed), labels)
    for task, columns in _columns(labels).items():
        cells = np.ix_(_rows(placed, task), columns)
        panels.append(Panel(task, [labels[i] for i in columns], probabilities[cells], truth[cells]))
    save_precision_recall(panels, folder)


# ---- use


class Classifier:
    """A version, to be asked.

    Args:
        folder: Of the version.
        config: How long texts may be, and on which device it runs.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        with quiet_transformers():
            self._model = DistilBertWithWords.from_pretrained(folder, use_safetensors=True, local_files_only=True)
        self._model.to(device_of(config)).eval()
        self._config = config
        self._tokenizer = _tokenizer(folder, min(config.max_tokens, self._model.config.max_position_embeddings))
        self.labels = _labels(self._model)
        saved = _thresholds(self._model.config)
        self._thresholds = tuple(saved.get(x, config.threshold) for x in self.labels if not is_severity(x))

    def __call__(self, texts: Sequence[str], on_progress: ProgressCallback = no_progress) -> Decisions:
        """Probabilities of each label, and which are predicted: any number of tactics, one severity."""
        tokens = _cut(_encode(self._tokenizer, texts), self._tokenizer.max_tokens)
        inputs = _inputs(self._model, tokens, self._config, on_progress)
        above = Above(self._model, self._config.frozen_layers)
        logits = _predict(above, inputs, range(len(texts)), "classifying", on_progress)
        logits += _words_say(self._model, _features(self._model, tokens))
        serves = {TACTICS: Calibration(thresholds=self._thresholds), SEVERITY: Calibration()}
        return _decide(logits, self.labels, serves)


# ---- the card


def introduction(manifest: Manifest) -> str:
    """What a version does and how it is used, in Markdown."""
    tactics = [label for label in manifest.labels if not is_severity(label)]
    severities = [label for label in manifest.labels if is_severity(label)]
    said = []
    if tactics:
        said.append(f"Says which ATT&CK tactics a text speaks of: {', '.join(tactics)}.")
    if severities:
        said.append(f"Says how severe what a template detects is: {', '.join(severities)}.")
    return f"""{" ".join(said)}

```python
from transformers import pipeline

classify = pipeline("text-classification", ".", top_k=None, function_to_apply="sigmoid", trust_remote_code=True)
classify("APT29 dumped credentials from LSASS memory.")
```

`trust_remote_code` lets `distilbert_words.py`, which lies here, add what a regression on the words says; without it
the encoder alone is loaded, whose scores are lower. A tactic is predicted from its probability in `thresholds` of
`config.json` on. The severity is the label with the largest score among those that begin with `severity:`; their
probabilities are the softmax over these alone (`function_to_apply="none"` gives the logits). The probabilities are
calibrated on the holdout, those of the tactics given that the text has one. The thresholds are those of the highest
expected F1. No score below was computed on examples that its calibration was fitted on.
`precision_recall.png` shows other thresholds; `ece` is the expected calibration error."""


PIPELINE = "text-classification"
