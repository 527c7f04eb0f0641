"""What the network is trained on: hidden techniques of sources, and tactics of techniques.

    row of a source ──> a part is shown, the rest hidden ──> softmax over all techniques not shown ──┐
    technique ──> binary cross-entropy of each tactic ───────────────────────────────────────────────┴──> sum

Every technique that is not shown is a negative of the softmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import torch
from torch import nn

from schemas.recipes.gnn import GnnConfig
from trainers.core.dataset import Dataset
from trainers.core.metrics.classification import label_matrix
from trainers.models.gnn.examples import predicted_links, techniques_with_tactics
from trainers.models.gnn.graph import LinkRow, row_label
from trainers.models.gnn.neighbourhood import GraphViews
from trainers.models.gnn.network import ThreatGnn
from trainers.models.gnn.view import make_batch

PATH_PARAMETERS = frozenset(
    (
        "paths", "alike_text", "alike_shown", "alike_label", "smooth", "attention",
        "paths_by_number", "attention_by_number", "sharper_by_number",
    )
)  # fmt: skip
"""Parameters of path features and attention: few, with a learning rate of their own and without weight decay."""


class TrainingItems(msgspec.Struct, frozen=True):
    """What is trained on. An item's index counts the rows, then the techniques.

    Attributes:
        rows: Rows of the graph.
        techniques: Node index of each technique.
        tactics: (techniques, tactics), float32, 1 where the technique has the tactic, else 0.
    """

    rows: tuple[LinkRow, ...]
    techniques: tuple[int, ...]
    tactics: torch.Tensor

    def __len__(self) -> int:
        return len(self.rows) + len(self.techniques)


def training_items(views: GraphViews, data: Dataset, tactics: Sequence[str]) -> TrainingItems:
    """The items of a dataset: the whole row of every link to train on, and every technique to train on.

    Args:
        views: Rows and techniques that its graph does not have are left out.
        data: Its `train` counts.
        tactics: That the network knows.
    """
    index = views.index
    labelled = {(index[x.source], row_label(x)) for x in predicted_links(data.train) if x.source in index}
    techniques = [(index[name], names) for name, names in techniques_with_tactics(data.train) if name in index]
    return TrainingItems(
        rows=tuple(row for row in views.rows if (row.source, row.label) in labelled),
        techniques=tuple(node for node, _ in techniques),
        tactics=torch.from_numpy(label_matrix([names for _, names in techniques], tactics)).float(),
    )


def item_weight(items: TrainingItems, indices: Sequence[int]) -> float:
    """What the loss of some items is divided by: the root of a row's number of links, and 1 for a technique."""
    rows = items.rows
    return sum(len(rows[i].targets) ** 0.5 if i < len(rows) else 1.0 for i in indices)


def loss(
    model: nn.Module, views: GraphViews, items: TrainingItems, indices: Sequence[int], network: ThreatGnn,
    config: GnnConfig,
) -> torch.Tensor:  # fmt: skip
    """The sum of the losses of some items.

    A row counts as the root of its number of links: as much as `item_weight` says.

    Args:
        model: The network, perhaps wrapped for several processes.
        views: Of the graph that the items belong to.
        items: All items.
        indices: Of the items that are computed.
        network: The network itself, for its shape.
        config: Its `shown_from` and `shown_to` count.

    Returns:
        A scalar, float32. Random numbers are drawn from torch's global generator.
    """
    rows = [items.rows[i] for i in indices if i < len(items.rows)]
    chosen = [i - len(items.rows) for i in indices if i >= len(items.rows)]
    techniques = [items.techniques[i] for i in chosen]
    around = views.around(
        [row.source for row in rows] + techniques, 0 if views.is_whole else int(torch.randint(2**31, ()))
    )
    view = around.view
    batch = make_batch(view, network.shape, around.localize(rows))
    shown, hidden = hide_links(batch.shown, config)
    nodes = torch.tensor([around.position[node] for node in techniques], dtype=torch.long, device=view.device)
    scores, logits = model(view, msgspec.structs.replace(batch, shown=shown), nodes)
    log_probabilities = scores.float().masked_fill(shown > 0, -1e9).log_softmax(1)
    mean = (log_probabilities * hidden).sum(1) / hidden.sum(1).clamp(min=1.0)
    row_weight = batch.shown.sum(1).sqrt()
    truth = items.tactics[chosen].to(view.device)
    tactics = nn.functional.binary_cross_entropy_with_logits(logits.float(), truth, reduction="none").sum()
    total: torch.Tensor = tactics - (mean * row_weight).sum()
    return total


def hide_links(known: torch.Tensor, config: GnnConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Divide the techniques of each row at random into those that are shown and those that are to be found.

    Args:
        known: (rows, targets), float32 of 0 and 1.
        config: The share that is shown is drawn for each row, between `shown_from` and `shown_to`.

    Returns:
        Shown and hidden, of the same shape; they add up to `known`. Each row with a technique has a hidden one.
    """
    share = config.shown_from + (config.shown_to - config.shown_from) * torch.rand(len(known), 1)
    draws = torch.rand(known.shape).to(known.device) * known
    hidden = known * (draws > share.to(known.device))
    if known.numel():
        hidden.scatter_(1, draws.argmax(1, keepdim=True), 1.0)
    hidden = hidden * known
    return known - hidden, hidden


def parameter_groups(network: ThreatGnn, config: GnnConfig, lr_scale: float) -> list[dict[str, Any]]:
    """Parameter groups of the optimizer: the layers, and `PATH_PARAMETERS`.

    Args:
        network: Whose parameters are trained.
        config: Its learning rates count.
        lr_scale: Scale of both learning rates, over 0.
    """
    named = list(network.named_parameters())
    return [
        {
            "params": [p for name, p in named if name not in PATH_PARAMETERS],
            "lr": config.learning_rate * lr_scale,
        },
        {
            "params": [p for name, p in named if name in PATH_PARAMETERS],
            "lr": config.path_learning_rate * lr_scale,
            "weight_decay": 0.0,
        },
    ]
