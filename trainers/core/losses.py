"""Losses of single examples, for the journal: rounded, and never infinite."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trainers.core.probabilities import FloatArray

LEAST_PROBABILITY = 1e-6
"""A probability counts as no less: one wrong answer that was certain is no more than 13.8."""
DIGITS = 4


def log_loss(probability: float) -> float:
    """Minus the logarithm of the probability of what is true, in nats.

    >>> log_loss(1.0), log_loss(0.0)
    (0.0, 13.8155)
    """
    return round(-math.log(min(max(probability, LEAST_PROBABILITY), 1.0)), DIGITS) + 0.0


def multi_label_loss(probabilities: FloatArray, labels: Sequence[str], true: Sequence[str]) -> float:
    """Mean binary log loss over labels.

    Args:
        probabilities: (labels,), 0 to 1.
        labels: Those that the model knows.
        true: Those of the example; each that the model does not know counts as one that it is certain of and wrong.

    >>> import numpy as np
    >>> multi_label_loss(np.array([0.5, 0.5]), ["a", "b"], ["a"])
    0.6931
    """
    losses = [
        log_loss(float(p) if label in true else 1.0 - float(p))
        for label, p in zip(labels, probabilities, strict=True)
    ]
    losses += [log_loss(0.0)] * len(set(true) - set(labels))
    return round(math.fsum(losses) / max(len(losses), 1), DIGITS)
