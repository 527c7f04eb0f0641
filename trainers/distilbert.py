"""The recipe of `distilbert-mitre`: the tactics and the severity of a text, from examples to a folder.

    1 load      the parent, or the base with a new head; rows for new labels
    2 score     the parent on what it has not seen: the fresh examples, and the holdout; what it says of examples
                without labels of a task is what they teach of it
    3 mix       fresh and rehearsal examples, shuffled, in batches of similar length
    4 fit       AdamW, a linear warm-up and decay
    5 evaluate  the candidate on the same holdout
    6 save      model.safetensors, config.json, tokenizer.json, README.md

One encoder, two heads: tactics are a sigmoid each, the severities a softmax over theirs. Both are rows of one
classifier, those of the severities named `severity:high`. An example without labels of a task gives that head
nothing to learn but what the parent says, where it knew the task.

The folder loads with `AutoModelForSequenceClassification`. The same examples, parent, configuration and
thread count give the same bytes on the same machine type: every random number comes from `Config.seed`.
"""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import DistilBertConfig, DistilBertForSequenceClassification, DistilBertModel

from schemas.taxonomy import is_severity
from trainers.base_models import TOKENIZER_FILES, quiet_transformers
from trainers.core.dataset import Dataset, Placed
from trainers.core.evaluate import TASKS, Marks, Scores, all_labels, marks, most_frequent, score
from trainers.watch import Step, Watch

Tokens = list[list[int]]
"""Token ids of each text, from [CLS] to [SEP], not padded."""

SORTED_BATCHES = 20
"""So many batches are cut from one sorted piece of the shuffled examples: little padding, still random order."""
PREDICTION_BATCH = 64
BIAS_OF_NEW_LABEL = -2.0
"""A new label starts at a probability of 0.12, about how often a tactic occurs, not at 0.5."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """How to train; all of it is in the manifest.

    Attributes:
        epochs: Passes over the examples, at least 1.
        batch_size: Examples a step.
        learning_rate: Of the encoder's layers, at the end of the warm-up.
        head_learning_rate: Of the two layers of the head.
        warmup: Share of all steps in which the rates rise from 0, 0 to 1.
        weight_decay: Of AdamW.
        max_tokens: Longer texts are cut.
        frozen_layers: So many layers from the bottom keep their weights; the embeddings always do.
        dropout: In the encoder and the head, 0 to 1.
        threshold: A label is predicted from this probability on.
        threads: Threads of torch; another number gives other bytes.
        seed: Of everything random.
    """

    epochs: int = 2
    batch_size: int = 16
    learning_rate: float = 3e-4
    head_learning_rate: float = 3e-3
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_tokens: int = 64
    frozen_layers: int = 3
    dropout: float = 0.0
    threshold: float = 0.5
    threads: int = 2
    seed: int = 17


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of a run.

    Attributes:
        labels: Of the head, in order.
        candidate: Scores of the splits `old`, `recent`, `holdout` (both), and with severities those of
            `old_severity` and so on (`trainers.core.evaluate.TASKS`).
        champion: The parent's on the same examples, and on `prequential`; empty without a parent.
        baseline: Scores on `holdout` of naming the most frequent labels for everything.
    """

    labels: tuple[str, ...]
    candidate: Mapping[str, Scores]
    champion: Mapping[str, Scores]
    baseline: Mapping[str, Scores]


def run(
    data: Dataset,
    labels: Sequence[str],
    base: Path,
    parent: Path | None,
    config: Config,
    folder: Path,
    watch: Watch,
) -> Report:
    """Train one version.

    Args:
        data: At least one example to train on.
        labels: What the model must know; it keeps those of its parent as well.
        base: Folder of the base model; a first version starts from it.
        parent: Folder of the version to start from, or None. It is not changed.
        config: See `Config`.
        folder: Where the version is written; exists and is empty.
        watch: Called after every step; what it raises ends the run.

    Raises:
        ArithmeticError: The loss is not a finite number any more.
    """
    make_deterministic(config)
    source = parent or base

    # 1 load
    model = _load_parent(parent, labels, config) if parent else _load_base(base, labels, config)
    known = _labels(model)
    tokenizer = _tokenizer(source, min(config.max_tokens, model.config.max_position_embeddings))
    train, holdout = data.train, data.old + data.recent
    train_tokens, holdout_tokens = _encode(tokenizer, train), _encode(tokenizer, holdout)

    # 2 score the parent
    champion: dict[str, Scores] = {}
    targets = torch.from_numpy(marks(_label_sets(train), known)).float()  # (examples, labels)
    if parent:
        cells = _for_the_parent_to_say(targets, known, _known_to(parent))
        asked = len(train) if cells.any() else len(data.fresh)
        before = _predict(model, train_tokens[:asked] + holdout_tokens, "scoring the champion", watch)
        champion |= _scores("prequential", before[: len(data.fresh)], data.fresh, known, config)
        champion |= _judge(before[asked:], data, known, config)
        targets[:asked][cells[:asked]] = torch.from_numpy(before[:asked])[cells[:asked]]

    # 3 mix, 4 fit
    _fit(model, train_tokens, targets, config, watch)

    # 5 evaluate
    candidate = _judge(_predict(model, holdout_tokens, "scoring the candidate", watch), data, known, config)
    baseline = _scores("holdout", _most_frequent(train, holdout, known), holdout, known, config)

    # 6 save
    _save(model, source, folder)
    return Report(labels=known, candidate=candidate, champion=champion, baseline=baseline)


def make_deterministic(config: Config) -> None:
    """Set up torch in this thread, where the number of threads counts, so that equal input gives equal bytes."""
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(config.seed)


# ---- load


def _dropouts(config: Config) -> dict[str, float]:
    return dict.fromkeys(("dropout", "attention_dropout", "seq_classif_dropout"), config.dropout)


def _load_base(base: Path, labels: Sequence[str], config: Config) -> DistilBertForSequenceClassification:
    """The base with a head of random weights."""
    with quiet_transformers():
        settings = DistilBertConfig.from_pretrained(base, **_dropouts(config))
        _name_labels(settings, labels, config)
        model = DistilBertForSequenceClassification(settings)
        model.distilbert.load_state_dict(DistilBertModel.from_pretrained(base).state_dict())
    _initialise(model.pre_classifier, 0.0, config)
    _initialise(model.classifier, BIAS_OF_NEW_LABEL, config)
    return model


def _load_parent(parent: Path, labels: Sequence[str], config: Config) -> DistilBertForSequenceClassification:
    """The parent; its head gets a row more for each label that it doesn't know, after its own."""
    with quiet_transformers():
        model = DistilBertForSequenceClassification.from_pretrained(
            parent, use_safetensors=True, local_files_only=True, **_dropouts(config)
        )
    known = _labels(model)
    wanted = all_labels(known, [labels])
    grown = nn.Linear(model.config.dim, len(wanted))  # (labels, dim)
    _initialise(grown, BIAS_OF_NEW_LABEL, config)
    with torch.no_grad():
        grown.weight[: len(known)] = model.classifier.weight
        grown.bias[: len(known)] = model.classifier.bias
    model.classifier, model.num_labels = grown, len(wanted)
    _name_labels(model.config, wanted, config)
    return model


def _initialise(layer: nn.Linear, bias: float, config: Config) -> None:
    generator = torch.Generator().manual_seed(config.seed)
    nn.init.normal_(layer.weight, std=0.02, generator=generator)
    nn.init.constant_(layer.bias, bias)


def _name_labels(settings: DistilBertConfig, labels: Sequence[str], config: Config) -> None:
    settings.id2label = dict(enumerate(labels))
    settings.label2id = {label: i for i, label in enumerate(labels)}
    settings.problem_type = "multi_label_classification"
    settings.threshold = config.threshold


def _labels(model: DistilBertForSequenceClassification) -> tuple[str, ...]:
    return tuple(model.config.id2label[i] for i in range(len(model.config.id2label)))


def _known_to(parent: Path) -> tuple[str, ...]:
    settings = DistilBertConfig.from_pretrained(parent)
    return tuple(settings.id2label.values())


def _tokenizer(folder: Path, max_tokens: int) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILES[0]))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def _encode(tokenizer: Tokenizer, placed: Sequence[Placed]) -> Tokens:
    return [encoding.ids for encoding in tokenizer.encode_batch([example.text for _, example in placed])]


# ---- fit


def _fit(
    model: DistilBertForSequenceClassification, tokens: Tokens, targets: torch.Tensor, config: Config, watch: Watch
) -> None:
    """Train in place. `targets` is (examples, labels) of 0.0 and 1.0."""
    optimizer = torch.optim.AdamW(_parameter_groups(model, config), weight_decay=config.weight_decay, foreach=True)
    order = random.Random(config.seed)
    epochs = [_batches(tokens, config.batch_size, order) for _ in range(config.epochs)]
    steps = sum(len(batches) for batches in epochs)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, config.warmup))
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    severity = _severity_columns(_labels(model))
    model.train()
    for step, (epoch, batch) in enumerate(((e, b) for e, batches in enumerate(epochs, 1) for b in batches), 1):
        loss = _loss(_logits(model, tokens, batch), targets[batch], severity)
        if not math.isfinite(loss.item()):
            raise ArithmeticError(f"loss is {loss.item()} at step {step} of {steps}: lower the learning rates")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        watch(Step("training", step, steps, epoch, loss.item()))


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
    """Minus the log-likelihood of an example's labels, by the mean over examples and columns.

    Args:
        logits, targets: (batch, labels).
        severity: (labels,), True for the columns of the severities.
    """
    tactics = targets[:, ~severity]
    each = nn.functional.binary_cross_entropy_with_logits(logits[:, ~severity], tactics, reduction="none")
    loss = (each * tactics.any(1, keepdim=True)).sum()
    if severity.any():
        loss = loss - (targets[:, severity] * logits[:, severity].log_softmax(1)).sum()
    return loss / logits.numel()


def _severity_columns(labels: Sequence[str]) -> torch.Tensor:
    return torch.tensor([is_severity(label) for label in labels])


def _parameter_groups(model: DistilBertForSequenceClassification, config: Config) -> list[dict[str, object]]:
    """The layers above the frozen ones, and the head, each with its learning rate; the rest is frozen."""
    model.requires_grad_(False)
    layers = list(model.distilbert.transformer.layer[config.frozen_layers :].parameters())
    head = [*model.pre_classifier.parameters(), *model.classifier.parameters()]
    for parameter in layers + head:
        parameter.requires_grad_(True)
    return [
        {"params": layers, "lr": config.learning_rate},
        {"params": head, "lr": config.head_learning_rate},
    ]


def _rate(step: int, steps: int, warmup: float) -> float:
    """Share of the full learning rate at a step counted from 0: up in a line, then down in a line to 0."""
    rising = warmup * steps
    return min(1.0, (step + 1) / rising if rising else 1.0) * (steps - step) / steps


def _batches(tokens: Tokens, size: int, order: random.Random) -> list[list[int]]:
    """One epoch: every example once, in shuffled batches of similar length."""
    shuffled = order.sample(range(len(tokens)), len(tokens))
    piece = size * SORTED_BATCHES
    batches: list[list[int]] = []
    for start in range(0, len(shuffled), piece):
        similar = sorted(shuffled[start : start + piece], key=lambda i: len(tokens[i]))
        batches += [similar[i : i + size] for i in range(0, len(similar), size)]
    order.shuffle(batches)
    return batches


def _logits(model: DistilBertForSequenceClassification, tokens: Tokens, batch: Sequence[int]) -> torch.Tensor:
    """(batch, labels); the batch is padded to its longest text."""
    longest = max(len(tokens[i]) for i in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask = torch.zeros(len(batch), longest, dtype=torch.long)
    for row, i in enumerate(batch):
        ids[row, : len(tokens[i])] = torch.tensor(tokens[i])
        mask[row, : len(tokens[i])] = 1
    return model(input_ids=ids, attention_mask=mask).logits


# ---- evaluate


def _predict(
    model: DistilBertForSequenceClassification, tokens: Tokens, phase: str, watch: Watch
) -> npt.NDArray[np.float32]:
    """Probability of each label: (texts, labels)."""
    out = np.zeros((len(tokens), model.num_labels), dtype=np.float32)
    by_length = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
    batches = [by_length[i : i + PREDICTION_BATCH] for i in range(0, len(by_length), PREDICTION_BATCH)]
    severity = _severity_columns(_labels(model))
    model.eval()
    with torch.inference_mode():
        for step, batch in enumerate(batches, 1):
            logits = _logits(model, tokens, batch)
            probabilities = logits.sigmoid()
            probabilities[:, severity] = logits[:, severity].softmax(1)
            out[batch] = probabilities.numpy()
            watch(Step(phase, step, len(batches)))
    return out


def _judge(
    probabilities: npt.NDArray[np.float32], data: Dataset, labels: Sequence[str], config: Config
) -> dict[str, Scores]:
    """Scores of the splits, from the probabilities of the old holdout examples and then the recent ones."""
    number = len(data.old)
    return {
        **_scores("old", probabilities[:number], data.old, labels, config),
        **_scores("recent", probabilities[number:], data.recent, labels, config),
        **_scores("holdout", probabilities, data.old + data.recent, labels, config),
    }


def _scores(
    split: str, probabilities: npt.NDArray[Any], placed: Sequence[Placed], labels: Sequence[str], config: Config
) -> dict[str, Scores]:
    """Scores of one split in each task that the model knows labels of."""
    truth = _label_sets(placed)
    out: dict[str, Scores] = {}
    for task, belongs in TASKS.items():
        columns = [i for i, label in enumerate(labels) if belongs(label)]
        if not columns:
            continue
        rows = [row for row, names in enumerate(truth) if any(map(belongs, names))]
        wanted = [[name for name in truth[row] if belongs(name)] for row in rows]
        everything = all_labels([labels[i] for i in columns], wanted)
        predicted = np.zeros((len(rows), len(everything)), dtype=np.bool_)
        found = probabilities[np.ix_(rows, columns)]  # (examples, labels of the task)
        if task:
            predicted[np.arange(len(rows)), found.argmax(1)] = True
        else:
            predicted[:, : len(columns)] = found >= config.threshold
        out[split + task] = score(marks(wanted, everything), predicted, everything)
    return out


def _most_frequent(train: Sequence[Placed], holdout: Sequence[Placed], labels: Sequence[str]) -> Marks:
    """What names the most frequent labels of each task for everything, as probabilities."""
    frequent: list[str] = []
    for belongs in TASKS.values():
        of_task = [[label for label in names if belongs(label)] for names in _label_sets(train)]
        frequent += most_frequent(names for names in of_task if names)
    return marks([frequent] * len(holdout), labels)


def _label_sets(placed: Sequence[Placed]) -> list[tuple[str, ...]]:
    return [example.labels for _, example in placed]


# ---- save


def _save(model: DistilBertForSequenceClassification, source: Path, folder: Path) -> None:
    """Weights, configuration, and the tokenizer as it came."""
    with quiet_transformers():
        model.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
