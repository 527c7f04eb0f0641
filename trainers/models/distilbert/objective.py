"""What the encoder is trained on: the targets of each chunk, and the loss.

labels ──> targets ──> cells without labels of a task: the parent's probabilities ──┐
                  └──> rehearsed examples: blended with the parent's probabilities ─┴──> loss
                                                 tactics: binary cross-entropy; severities: cross-entropy
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import nn

from schemas.scores import SEVERITY
from schemas.taxonomy import is_severity
from trainers.core.metrics.classification import TASKS, label_matrix
from trainers.core.probabilities import FloatArray, sigmoid, softmax
from trainers.models.distilbert.labels import columns_by_task


def label_targets(sets: Sequence[Sequence[str]], labels: Sequence[str], examples: Sequence[int]) -> torch.Tensor:
    """The targets by the labels alone.

    Args:
        sets: The labels of each example.
        labels: Of the columns.
        examples: The example of each chunk.

    Returns:
        (chunks, labels), float32, 0 or 1.
    """
    return torch.from_numpy(label_matrix(sets, labels)[examples]).float()


def cells_without_labels(
    targets: torch.Tensor, labels: Sequence[str], parent_labels: Collection[str]
) -> torch.Tensor:
    """The targets that the parent's probabilities replace: those of a task that the example has no labels of.

    Without them a window that has only severities makes the encoder forget the tactics (learning without
    forgetting, Li and Hoiem 2016).

    Args:
        targets: (chunks, labels), 0 or 1.
        labels: Of the columns.
        parent_labels: Labels of the parent. A task that it has no labels of has no such cells.

    Returns:
        (chunks, labels), bool.
    """
    cells = torch.zeros_like(targets, dtype=torch.bool)
    for belongs in TASKS.values():
        if any(map(belongs, parent_labels)):
            columns = torch.tensor([belongs(label) for label in labels])
            cells |= ~targets[:, columns].any(1, keepdim=True) & columns
    return cells


def distill(
    targets: torch.Tensor,
    cells: torch.Tensor,
    parent_logits: FloatArray,
    labels: Sequence[str],
    fresh: int,
    share: float,
) -> torch.Tensor:
    """Put the parent's probabilities into the targets.

    Args:
        targets: (chunks, labels), float32.
        cells: (chunks, labels), bool, the targets that are replaced.
        parent_logits: (scored chunks, labels), of the first chunks; the others keep their targets.
        labels: Of the columns.
        fresh: Number of chunks, from the first, that are not rehearsed.
        share: Weight of the parent's probabilities in the targets of the rehearsed chunks, 0 to 1.

    Returns:
        (chunks, labels), float32.
    """
    scored = len(parent_logits)
    probabilities = torch.from_numpy(independent_probabilities(parent_logits, labels)).float()
    distilled = targets.clone()
    distilled[:scored][cells[:scored]] = probabilities[cells[:scored]]
    distilled[fresh:scored].lerp_(probabilities[fresh:], share)
    return distilled


def independent_probabilities(logits: FloatArray, labels: Sequence[str]) -> FloatArray:
    """Probabilities as the loss sees them: each tactic by itself, neither conditioned nor calibrated.

    Args:
        logits: (texts, labels).
        labels: Names of the columns.

    Returns:
        (texts, labels), float64.
    """
    probabilities = np.zeros(logits.shape)
    for task, columns in columns_by_task(labels).items():
        of_task = logits[:, columns]
        probabilities[:, columns] = softmax(of_task) if task == SEVERITY else sigmoid(of_task)
    return probabilities


def severity_mask(labels: Sequence[str]) -> torch.Tensor:
    """(labels,), bool, True for the severities."""
    return torch.tensor([is_severity(label) for label in labels])


def summed_loss(logits: torch.Tensor, targets: torch.Tensor, severity: torch.Tensor) -> torch.Tensor:
    """The loss: binary cross-entropy of each tactic plus cross-entropy of the severities, over the number of
    labels.

    Args:
        logits: (batch, labels), float32.
        targets: (batch, labels), float32, 0 to 1. An example without targets of a task adds nothing to its loss.
        severity: (labels,), bool, True for the columns of the severities.

    Returns:
        A scalar, the sum over the batch.
    """
    tactics = targets[:, ~severity]
    losses = nn.functional.binary_cross_entropy_with_logits(logits[:, ~severity], tactics, reduction="none")
    loss = (losses * tactics.any(1, keepdim=True)).sum()
    if severity.any():
        loss = loss - (targets[:, severity] * logits[:, severity].log_softmax(1)).sum()
    return loss / logits.shape[1]
