"""How far the labels of recent examples have moved from what the champion was trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping


def jensen_shannon(p: Mapping[str, int], q: Mapping[str, int]) -> float:
    """Jensen-Shannon distance (base 2) of two count distributions, 0 (equal) to 1 (disjoint).

    The square root of the divergence of Lin (1991), "Divergence measures based on the Shannon entropy".
    Two empty distributions are equal; an empty and a non-empty one are at distance 1.

    >>> jensen_shannon({"a": 1}, {"b": 5})
    1.0
    >>> jensen_shannon({"a": 2, "b": 2}, {"a": 10, "b": 10})
    0.0
    """
    total_p, total_q = sum(p.values()), sum(q.values())
    if not total_p or not total_q:
        return float(total_p != total_q)
    divergence = 0.0
    for label in sorted(p.keys() | q.keys()):
        a, b = p.get(label, 0) / total_p, q.get(label, 0) / total_q
        middle = (a + b) / 2
        divergence += (a * math.log2(a / middle) if a else 0.0) / 2
        divergence += (b * math.log2(b / middle) if b else 0.0) / 2
    return math.sqrt(min(max(divergence, 0.0), 1.0))
