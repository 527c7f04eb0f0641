"""The distance of two label distributions."""

from __future__ import annotations

import math
from collections.abc import Mapping


def jensen_shannon(p: Mapping[str, int], q: Mapping[str, int]) -> float:
    """Jensen-Shannon distance of two distributions, given as counts.

    It is the square root of the divergence of Lin (1991), "Divergence measures based on the Shannon entropy", with
    logarithms of base 2.

    Args:
        p, q: Label -> count, 0 or more.

    Returns:
        0 (equal) to 1 (disjoint). 0 if both are empty, 1 if one of them is.

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
        mean = (a + b) / 2
        divergence += (a * math.log2(a / mean) if a else 0.0) / 2
        divergence += (b * math.log2(b / mean) if b else 0.0) / 2
    return math.sqrt(min(max(divergence, 0.0), 1.0))
