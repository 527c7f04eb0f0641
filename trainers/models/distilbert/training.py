"""Train the encoder on chunks of texts: the order of the batches, the loop, and the logits of what was trained.

Weights and logits are float32. The trained layers compute in the precision of the configuration while they are
trained, and in float32 when they are evaluated, as they are served.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from schemas.recipes.distilbert import DistilbertConfig
from schemas.scores import TaskScores
from trainers.core.batching import batches_by_length, shuffled_batches
from trainers.core.history import History
from trainers.core.loop import Checkpointer, device_of, fit
from trainers.core.precision import autocast, precision_of
from trainers.core.probabilities import FloatArray
from trainers.core.progress import ProgressCallback, RunProgress
from trainers.models.distilbert.hidden_states import HiddenStateCache, TrainableLayers
from trainers.models.distilbert.objective import severity_mask, summed_loss

BATCHES_PER_BUCKET = 20
"""Training batches that are cut from one bucket of shuffled examples: little padding, and still a random order."""
PREDICTION_BATCH_SIZE = 64


def train_encoder(
    layers: TrainableLayers,
    hidden_states: HiddenStateCache,
    targets: torch.Tensor,
    labels: Sequence[str],
    config: DistilbertConfig,
    on_progress: ProgressCallback,
    checkpointer: Checkpointer | None = None,
    evaluate: Callable[[], Mapping[str, TaskScores]] | None = None,
    *,
    is_warm_start: bool = False,
) -> History:
    """Train the layers and the head in place; they end in evaluation mode.

    Args:
        layers: What is trained.
        hidden_states: Of the chunks to train on, and perhaps of more texts after them.
        targets: (chunks, labels), float32, 0 to 1.
        labels: Names of the columns.
        config: See `DistilbertConfig`.
        on_progress: Called after every step; what it raises ends the run.
        checkpointer: Loads and saves checkpoints; None for none.
        evaluate: Task -> scores on the holdout, for the curve; None for no curve.
        is_warm_start: Whether the layers start from an earlier version: `warm_start_lr_scale` then applies.

    Raises:
        ArithmeticError: The loss is not finite.
    """
    rng = random.Random(config.seed)
    lengths = hidden_states.lengths[: len(targets)]
    batches = [shuffled_batches(lengths, config.batch_size, BATCHES_PER_BUCKET, rng) for _ in range(config.epochs)]
    severity, device = severity_mask(labels), device_of(config)
    precision = precision_of(config, device)

    def loss(wrapped: nn.Module, batch: Sequence[int]) -> torch.Tensor:
        with autocast(device, precision):
            logits = batch_logits(wrapped, hidden_states, batch)
        return summed_loss(logits, targets[list(batch)].to(logits.device), severity.to(logits.device))

    groups = _parameter_groups(layers, config, config.warm_start_lr_scale if is_warm_start else 1.0)
    return fit(
        layers, batches, loss, groups, config, on_progress, checkpointer=checkpointer, evaluate=evaluate
    )  # fmt: skip


def copied_weights(layers: TrainableLayers) -> dict[str, torch.Tensor]:
    """A copy of the weights, by their names."""
    return {name: weights.clone() for name, weights in layers.state_dict().items()}


def average_with(
    layers: TrainableLayers, parent: Mapping[str, torch.Tensor], share: float, known: Sequence[int]
) -> None:
    """Replace trained weights, in place, by their mean with those that training started from.

    Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", https://arxiv.org/abs/2109.01903.
    The mean of two models is often nearly as good as each of them on what that one knows best.

    Args:
        layers: Trained.
        parent: `copied_weights` from before.
        share: Weight of the parent in the mean, 0 to 1.
        known: Labels that the parent knows, as rows of the classifier; those of others stay as they were trained.
    """
    rows = list(known)
    with torch.no_grad():
        for name, weights in layers.state_dict().items():
            before = parent[name].to(weights.device)
            if name.startswith("classifier."):
                weights[rows] = weights[rows].lerp(before[rows], share)
            else:
                weights.lerp_(before, share)


def _parameter_groups(layers: TrainableLayers, config: DistilbertConfig, scale: float) -> list[dict[str, object]]:
    """The layers and the head, each with its learning rate."""
    encoder = list(layers.layers.parameters())
    head = [*layers.pre_classifier.parameters(), *layers.classifier.parameters()]
    return [
        {"params": encoder, "lr": config.learning_rate * scale},
        {"params": head, "lr": config.head_learning_rate * scale},
    ]


def encoder_logits(
    layers: TrainableLayers,
    hidden_states: HiddenStateCache,
    texts: Sequence[int],
    phase: str,
    on_progress: ProgressCallback,
) -> FloatArray:
    """Logits of the encoder, without the text regression.

    Args:
        layers: Left in evaluation mode.
        hidden_states: Of all texts.
        texts: Indices of the texts to evaluate.
        phase: Reported to `on_progress` after each batch.
        on_progress: See `trainers.core.progress`.

    Returns:
        (texts, labels), float64, in the order of `texts`.
    """
    logits = np.zeros((len(texts), layers.classifier.out_features))
    batches = batches_by_length([hidden_states.lengths[i] for i in texts], PREDICTION_BATCH_SIZE)
    layers.eval()
    with torch.inference_mode():
        for step, batch in enumerate(batches, 1):
            logits[batch] = batch_logits(layers, hidden_states, [texts[i] for i in batch]).cpu().numpy()
            on_progress(RunProgress(phase, step, len(batches)))
    return logits


def batch_logits(layers: nn.Module, hidden_states: HiddenStateCache, texts: Sequence[int]) -> torch.Tensor:
    """Logits of one batch of texts, (texts, labels), float32, on the device of the layers."""
    hidden, mask = hidden_states.batch(texts)
    device = next(layers.parameters()).device
    logits: torch.Tensor = layers(hidden.to(device), mask.to(device))
    return logits
