"""A fixed random projection: a few numbers in the place of an embedding, for the journal.

The matrix is of random signs (Achlioptas 2003), which are hashes: the same on every machine and in every release.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from trainers.core.losses import DIGITS
from trainers.core.probabilities import FloatArray

SIZE = 8


def project(embedding: npt.NDArray[np.floating]) -> tuple[float, ...]:
    """The projection of the direction of an embedding, which alone counts in a cosine similarity.

    Args:
        embedding: (dim,), any length.

    Returns:
        `SIZE` numbers, rounded to `DIGITS`; all 0 for an embedding of 0.

    >>> project(np.zeros(3))
    (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    """
    vector = embedding.astype(np.float64)
    unit = vector / (np.linalg.norm(vector) or 1.0)
    return tuple(round(float(number), DIGITS) + 0.0 for number in _signs(len(unit)) @ unit)


@lru_cache(maxsize=8)
def _signs(length: int) -> FloatArray:
    """(`SIZE`, length), each 1 or -1."""
    count = SIZE * length
    data = hashlib.shake_256(b"sx9 projection").digest((count + 7) // 8)
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))[:count]
    return (bits.astype(np.float64) * 2 - 1).reshape(SIZE, length)
