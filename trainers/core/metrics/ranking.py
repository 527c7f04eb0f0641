"""How well a ranking finds what is hidden, and the rankings that a model has to beat.

    scores (rows, candidates) ──> known ones out ──> the best `k` ──> recall@k, NDCG@k of each row ──> means

A row is a source (a group, a tool, a mitigation, ...) of which some targets are shown and some are hidden.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.scores import TaskScores

TOP = 20

Matrix = npt.NDArray[np.float32]
"""(rows, candidates)."""


def ranked(scores: Matrix, shown: Matrix, hidden: Matrix, k: int = TOP) -> tuple[Matrix, Matrix]:
    """Recall and NDCG of each row.

    Args:
        scores: Higher is better; of equal ones the candidate with the smaller index comes first.
        shown: 1 where a target is known: never ranked.
        hidden: 1 where a target is to be found; at least one per row.
        k: Length of the ranking.

    Returns:
        (rows,) share of the hidden targets among the best `k`, and their discounted gain over the best possible.

    >>> one = lambda *x: np.array([x], dtype=np.float32)
    >>> [float(x[0]) for x in ranked(one(3, 2, 1), one(1, 0, 0), one(0, 1, 0), k=1)]
    [1.0, 1.0]
    """
    order = np.argsort(-np.where(shown > 0, -np.inf, scores), axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(hidden, order, axis=1)  # (rows, k)
    discounts = (1.0 / np.log2(np.arange(2, hits.shape[1] + 2))).astype(np.float32)
    best = np.concatenate([[0.0], np.cumsum(discounts)]).astype(np.float32)
    number = hidden.sum(1)
    ideal = best[np.minimum(number, hits.shape[1]).astype(int)]
    return hits.sum(1) / number, (hits * discounts).sum(1) / ideal


def ranking_scores(scores: Matrix, shown: Matrix, hidden: Matrix, k: int = TOP) -> TaskScores:
    """Means over the rows with something hidden, with the standard errors of these means; all 0 for none.

    Raises:
        ValueError: The arrays have different shapes.
    """
    if not scores.shape == shown.shape == hidden.shape:
        raise ValueError(f"scores {scores.shape}, shown {shown.shape} and hidden {hidden.shape} differ in shape")
    asked = hidden.sum(1) > 0
    names = (f"recall_at_{k}", f"ndcg_at_{k}")
    if not asked.any():
        return TaskScores(0, dict.fromkeys(names, 0.0), errors=dict.fromkeys(names, 0.0))
    found = dict(zip(names, ranked(scores[asked], shown[asked], hidden[asked], k), strict=True))
    number = int(asked.sum())
    return TaskScores(
        number,
        {name: float(each.mean()) for name, each in found.items()},
        errors={name: float(each.std() / np.sqrt(number)) for name, each in found.items()},
    )


def popularity(shown: Matrix, known: Matrix) -> Matrix:
    """The same for every row: how many known rows have a candidate."""
    return np.broadcast_to(known.sum(0), shown.shape).astype(np.float32)


def item_cosine(shown: Matrix, known: Matrix) -> Matrix:
    """The sum of a candidate's cosines with the shown targets, each seen as the set of known rows that have it."""
    together = known.T @ known  # (candidates, candidates)
    length = np.sqrt(np.diag(together)).clip(1e-6)
    np.fill_diagonal(together, 0.0)
    return np.asarray((shown / length) @ together / length, dtype=np.float32)
