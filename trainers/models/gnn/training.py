"""Train a network on the items of a dataset: the order of the batches, and the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from schemas.recipes.gnn import GnnConfig
from schemas.scores import TaskScores
from trainers.core.batching import in_batches
from trainers.core.dataset import Dataset
from trainers.core.history import History
from trainers.core.loop import Checkpointer, device_of, fit
from trainers.core.precision import autocast, precision_of
from trainers.core.progress import ProgressCallback
from trainers.models.gnn.neighbourhood import GraphViews
from trainers.models.gnn.network import ThreatGnn
from trainers.models.gnn.objective import item_weight, loss, parameter_groups, training_items


def train_network(
    network: ThreatGnn,
    views: GraphViews,
    data: Dataset,
    config: GnnConfig,
    on_progress: ProgressCallback,
    checkpointer: Checkpointer | None,
    evaluate: Callable[[], Mapping[str, TaskScores]],
    *,
    is_warm_start: bool,
) -> History:
    """Train a network in place; it ends in evaluation mode.

    Args:
        network: With room for all that the dataset has.
        views: Of the graph.
        data: Its `train` counts; without an item, nothing is trained.
        config: See `GnnConfig`.
        on_progress: Called after every step; what it raises ends the run.
        checkpointer: Loads and saves checkpoints; None for none.
        evaluate: Task -> scores on the holdout, for the curve.
        is_warm_start: Whether the network starts from an earlier version: `warm_start_lr_scale` then applies.

    Raises:
        ArithmeticError: The loss is not a finite number any more.
    """
    items = training_items(views, data, network.shape.tactics)

    device = device_of(config)
    precision = precision_of(config, device)

    def loss_of(model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        with autocast(device, precision):
            return loss(model, views, items, indices, network, config)

    return fit(
        network,
        _plan(len(items), config),
        loss_of,
        parameter_groups(network, config, config.warm_start_lr_scale if is_warm_start else 1.0),
        config,
        on_progress,
        weight=lambda indices: item_weight(items, indices),
        checkpointer=checkpointer,
        evaluate=evaluate,
    )


def _plan(items: int, config: GnnConfig) -> list[list[list[int]]]:
    """Item indices of each batch of each epoch, shuffled by the seed; no epochs without items."""
    generator = torch.Generator().manual_seed(config.seed)
    return [
        in_batches(torch.randperm(items, generator=generator).tolist(), config.batch_size)
        for _ in range(config.epochs if items else 0)
    ]
