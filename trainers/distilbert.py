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

import random
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import DistilBertConfig, DistilBertForSequenceClassification, DistilBertModel

from schemas.models import Manifest
from schemas.taxonomy import is_severity
from trainers.base_models import TOKENIZER_FILES, quiet_transformers
from trainers.core.config import DistilbertConfig
from trainers.core.dataset import Dataset, Placed, identity
from trainers.core.evaluate import TASKS, Marks, Scores, all_labels, marks, most_frequent, score
from trainers.core.history import History
from trainers.core.loop import fit, make_deterministic
from trainers.core.report import Report
from trainers.watch import Step, Watch

Tokens = list[list[int]]
"""Token ids of each text, from [CLS] to [SEP], not padded."""

SORTED_BATCHES = 20
"""So many batches are cut from one sorted piece of the shuffled examples: little padding, still random order."""
PREDICTION_BATCH = 64
BIAS_OF_NEW_LABEL = -2.0
"""A new label starts at a probability of 0.12, about how often a tactic occurs, not at 0.5."""


Config = DistilbertConfig
BASE_KIND = "distilbert"
CONTEXT = False


def run(
    data: Dataset,
    labels: Sequence[str],
    base: Path,
    parent: Path | None,
    config: Config,
    folder: Path,
    watch: Watch,
    *,
    checkpoints: Path | None = None,
) -> Report:
    """Train one version.

    Args:
        data: At least one example to train on.
        labels: What the model must know; it keeps those of its parent as well.
        base: Folder of the base model; a first version starts from it.
        parent: Folder of the version to start from, or None. It is not changed.
        config: See `DistilbertConfig`.
        folder: Where the version is written; exists and is empty.
        watch: Called after every step; what it raises ends the run.
        checkpoints: Where a killed run left its checkpoint and goes on; None for none.

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
    history = _fit(model, train_tokens, targets, config, watch, checkpoints, identity(data, labels, parent, config))

    # 5 evaluate
    candidate = _judge(_predict(model, holdout_tokens, "scoring the candidate", watch), data, known, config)
    floor = _scores("holdout", _most_frequent(train, holdout, known), holdout, known, config)

    # 6 save
    _save(model, source, folder)
    return Report(labels=known, candidate=candidate, champion=champion, floor=floor, history=history)


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
    model: DistilBertForSequenceClassification,
    tokens: Tokens,
    targets: torch.Tensor,
    config: Config,
    watch: Watch,
    checkpoints: Path | None,
    identity: str,
) -> History:
    """Train in place. `targets` is (examples, labels) of 0.0 and 1.0."""
    order = random.Random(config.seed)
    plan = [_batches(tokens, config.batch_size, order) for _ in range(config.epochs)]
    severity = _severity_columns(_labels(model))

    def loss(wrapped: nn.Module, batch: Sequence[int]) -> torch.Tensor:
        logits = _logits(wrapped, tokens, batch)
        return _loss(logits, targets[list(batch)].to(logits.device), severity.to(logits.device))

    groups = _parameter_groups(model, config)
    return fit(model, plan, loss, groups, config, watch, checkpoints=checkpoints, identity=identity)


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


def _logits(model: nn.Module, tokens: Tokens, batch: Sequence[int]) -> torch.Tensor:
    """(batch, labels); the batch is padded to its longest text."""
    longest = max(len(tokens[i]) for i in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask = torch.zeros(len(batch), longest, dtype=torch.long)
    for row, i in enumerate(batch):
        ids[row, : len(tokens[i])] = torch.tensor(tokens[i])
        mask[row, : len(tokens[i])] = 1
    device = next(model.parameters()).device
    logits: torch.Tensor = model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
    return logits


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
            out[batch] = probabilities.cpu().numpy()
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

classify = pipeline("text-classification", ".", top_k=None, function_to_apply="sigmoid")
classify("APT29 dumped credentials from LSASS memory.")
```

A tactic is predicted from a probability of {manifest.config.get("threshold", 0.5)} on. The severity is the label
with the largest score among those that begin with `severity:`; their probabilities are the softmax over these
alone (`function_to_apply="none"` gives the logits)."""


PIPELINE = "text-classification"
