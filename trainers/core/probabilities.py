"""Probabilities from logits, in float64 on the CPU."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def sigmoid(logits: FloatArray) -> FloatArray:
    """Probability of each label, for labels that are independent.

    Args:
        logits: Log-odds, any shape.

    Returns:
        The same shape, 0 to 1.

    >>> sigmoid(np.array([0.0])).tolist()
    [0.5]
    """
    probabilities: FloatArray = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return probabilities


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities of labels that exclude each other.

    Args:
        logits: (rows, labels), at least one label.

    Returns:
        (rows, labels); each row adds up to 1.

    >>> softmax(np.array([[1.0, 1.0]])).tolist()
    [[0.5, 0.5]]
    """
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    probabilities: FloatArray = exponentials / exponentials.sum(1, keepdims=True)
    return probabilities
