"""Probabilities of labels of which every example has at least one.

    log-odds of each label ──> Bayes: divide the odds by P(another label applies) ──> conditional log-odds

A sigmoid per label does not know that every example has at least one of them. These functions add this knowledge.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trainers.core.probabilities import FloatArray, sigmoid

_MIN_NEGATIVE_LOG = 1e-30
"""Keeps the result finite where no other label can apply."""


# `trainers/models/distilbert/network.py` has the same function: that file is copied into every version's folder,
# where `trust_remote_code` runs it without this project, so it can't import it from here. A core can't import it
# from a model either. A test holds the two to the same bits.
def condition_on_at_least_one(logits: torch.Tensor, columns: Sequence[int]) -> torch.Tensor:
    """Condition independent labels on at least one of them applying.

    By Bayes, P(i | at least one) = P(i) / P(at least one), so the odds of label `i` are divided by the probability
    that another label applies.

    Args:
        logits: (..., labels), log-odds of independent labels, any floating dtype.
        columns: The labels of which at least one applies. The others keep their logits. With no columns, the logits
            are returned as they are.

    Returns:
        (..., labels), the conditional log-odds, of the same dtype.

    >>> logits = torch.tensor([[0.0, 0.0, 5.0]])
    >>> condition_on_at_least_one(logits, [0, 1]).sigmoid()[0, :2]  # 1/2 each, and neither applies in 1 of 4 cases
    tensor([0.6667, 0.6667])
    """
    if not columns:
        return logits
    in_group = torch.zeros(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    in_group[list(columns)] = 1.0
    others = torch.outer(in_group, in_group) - torch.diag(in_group)
    negative_log_none = nn.functional.softplus(logits) @ others  # (..., labels), -log P(no other label applies)
    half = torch.tanh(0.5 * negative_log_none.clamp(min=_MIN_NEGATIVE_LOG))
    log_another = (2.0 * half / (1.0 + half)).log()  # log(1 - P(no other)), without cancellation
    return logits - in_group * log_another


def at_least_one(logits: FloatArray) -> FloatArray:
    """Probability of each label, where every row has at least one of them.

    Args:
        logits: (rows, labels), log-odds of independent labels, float64.

    Returns:
        (rows, labels), 0 to 1, float64. The probabilities of a row add up to at least 1.

    >>> import numpy as np
    >>> at_least_one(np.array([[0.0, 0.0]])).round(4).tolist()
    [[0.6667, 0.6667]]
    """
    columns = range(logits.shape[1])
    return sigmoid(condition_on_at_least_one(torch.from_numpy(logits), columns).numpy())
