"""Compute scores with a trained network, without gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from trainers.core.conditional import at_least_one
from trainers.core.metrics.ranking import Matrix
from trainers.models.gnn.graph import LinkRow
from trainers.models.gnn.network import ThreatGnn
from trainers.models.gnn.view import View, make_batch

BATCH_ROWS = 256
"""Rows that are scored at a time."""


@torch.no_grad()
def score_rows(network: ThreatGnn, view: View, rows: Sequence[LinkRow]) -> Matrix:
    """Score every technique for some sources.

    Args:
        network: Is set to evaluation mode.
        view: The graph.
        rows: Sources as nodes of the view; their targets are the techniques that are shown.

    Returns:
        (rows, targets), float32, in the order of `view.targets`; higher is more likely. (0, targets) for no rows.
    """
    network.eval()
    no_nodes = torch.zeros(0, dtype=torch.long, device=view.device)
    scores = [
        network(view, make_batch(view, network.shape, rows[i : i + BATCH_ROWS]), no_nodes)[0].float().cpu().numpy()
        for i in range(0, len(rows), BATCH_ROWS)
    ]
    return np.concatenate([np.zeros((0, len(view.targets)), dtype=np.float32), *scores])


@torch.no_grad()
def tactic_probabilities(network: ThreatGnn, view: View, nodes: Sequence[int]) -> Matrix:
    """Probabilities of the tactics of some techniques, conditioned on at least one tactic.

    Args:
        network: Is set to evaluation mode.
        view: The graph.
        nodes: Node indices of the techniques in the view.

    Returns:
        (nodes, tactics), float32, 0 to 1.
    """
    network.eval()
    indices = torch.tensor(list(nodes), dtype=torch.long, device=view.device)
    logits = network(view, make_batch(view, network.shape, ()), indices)[1]
    return at_least_one(logits.double().cpu().numpy()).astype(np.float32)
