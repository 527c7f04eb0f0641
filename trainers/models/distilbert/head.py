"""The model at the start of a run: from the base with a new head, or from the parent with an extended one.

base ──> encoder + head of random weights ─┐
parent ──> head + a row per new label ─────┴──> ... scored, then without the rows of retired labels ──> trained
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import DistilBertConfig, DistilBertModel

from schemas.recipes.distilbert import DistilbertConfig
from schemas.taxonomy import is_severity
from trainers.bases.quiet import loading_transformers
from trainers.core.dataset import Dataset
from trainers.core.metrics.classification import extend_labels
from trainers.models.distilbert.network import DistilBertWithWords, TextRegression

NEW_LABEL_BIAS = -2.0
"""A new label starts at a probability of 0.12, about how often a tactic occurs, and not at 0.5."""


def load_base(base: Path, labels: Sequence[str], config: DistilbertConfig) -> DistilBertWithWords:
    """Load a base model and give it a head of random weights.

    Args:
        base: Folder of a DistilBERT.
        labels: Labels of the head, in this order.
        config: Its dropout and seed are used.
    """
    with loading_transformers():
        model_config = DistilBertConfig.from_pretrained(base, **_dropouts(config))
        _set_labels(model_config, labels)
        model = DistilBertWithWords(model_config)
        model.distilbert.load_state_dict(DistilBertModel.from_pretrained(base).state_dict())
    _initialize(model.pre_classifier, 0.0, config.seed)
    _initialize(model.classifier, NEW_LABEL_BIAS, config.seed)
    return model


def load_parent(parent: Path, labels: Sequence[str], config: DistilbertConfig) -> DistilBertWithWords:
    """Load a parent and extend its head by the labels that it does not know.

    Args:
        parent: Folder of a version. It is not changed.
        labels: Labels that the model must know. New ones come after the parent's own.
        config: Its dropout and seed are used.
    """
    with loading_transformers():
        model = DistilBertWithWords.from_pretrained(
            parent, use_safetensors=True, local_files_only=True, **_dropouts(config)
        )
    known = model_labels(model.config)
    extended = extend_labels(known, [labels])
    head = nn.Linear(model.config.dim, len(extended))  # (labels, dim)
    _initialize(head, NEW_LABEL_BIAS, config.seed)
    with torch.no_grad():
        head.weight[: len(known)] = model.classifier.weight
        head.bias[: len(known)] = model.classifier.bias
    _replace_head(model, head, extended, range(len(known)))
    return model


def retired_labels(known: Sequence[str], data: Dataset) -> frozenset[str]:
    """The known labels that no current example has any more.

    The rehearsal sample is stratified by label, so it has examples of every label in use. Therefore, in a run that
    rehearses, a label that no example has was withdrawn from all examples, as when ATT&CK 19 split
    `defense-evasion`. Without rehearsal this can't be known, and no label is retired.
    """
    if not data.rehearsal:
        return frozenset()
    in_use = {label for _, example in data.train + data.old + data.recent for label in example.labels}
    return frozenset(known) - in_use


def keep_labels(model: DistilBertWithWords, columns: Sequence[int]) -> None:
    """Drop all labels but those of some columns, in place."""
    labels = model_labels(model.config)
    if len(columns) == len(labels):
        return
    head = nn.Linear(model.config.dim, len(columns), device=model.classifier.weight.device)
    with torch.no_grad():
        head.weight.copy_(model.classifier.weight[list(columns)])
        head.bias.copy_(model.classifier.bias[list(columns)])
    _replace_head(model, head, [labels[i] for i in columns], columns)


def model_labels(model_config: DistilBertConfig) -> tuple[str, ...]:
    """The labels of a model, in the order of its head."""
    names = model_config.id2label or {}
    return tuple(label for _, label in sorted(names.items(), key=lambda item: int(item[0])))


def saved_labels(folder: Path) -> tuple[str, ...]:
    """The labels of a version, in the order of its head."""
    return model_labels(DistilBertConfig.from_pretrained(folder))


def saved_thresholds(model_config: DistilBertConfig) -> dict[str, float]:
    """Tactic -> threshold, as a version's `config.json` has them; empty for a model that is not a version."""
    return dict(getattr(model_config, "thresholds", None) or {})


def _replace_head(
    model: DistilBertWithWords, head: nn.Linear, labels: Sequence[str], columns: Sequence[int]
) -> None:
    """Replace the classifier. Some columns of the text regression are kept, and become its first ones."""
    model.classifier, model.num_labels = head, len(labels)
    former = model.words
    model.words = TextRegression(former.vocabulary_size, len(labels)).to(former.weight.device)
    with torch.no_grad():
        model.words.weight[:, : len(columns)] = former.weight[:, list(columns)]
        model.words.bias[: len(columns)] = former.bias[list(columns)]
        model.words.scale[: len(columns)] = former.scale[list(columns)]
        model.words.idf.copy_(former.idf)
    _set_labels(model.config, labels)


def _initialize(layer: nn.Linear, bias: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    nn.init.normal_(layer.weight, std=0.02, generator=generator)
    nn.init.constant_(layer.bias, bias)


def _set_labels(model_config: DistilBertConfig, labels: Sequence[str]) -> None:
    model_config.id2label = dict(enumerate(labels))
    model_config.label2id = {label: i for i, label in enumerate(labels)}
    model_config.problem_type = "multi_label_classification"
    model_config.at_least_one = [i for i, label in enumerate(labels) if not is_severity(label)]


def _dropouts(config: DistilbertConfig) -> dict[str, Any]:
    return dict.fromkeys(("dropout", "attention_dropout", "seq_classif_dropout"), config.dropout)
