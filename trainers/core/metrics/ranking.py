"""Ranking metrics, and two baselines that rank.

    scores (rows, candidates) ──> without the shown targets ──> the top `k` ──> recall@k, NDCG@k per row ──> means

A row is a source (a group, a tool, a mitigation, ...). Some of its targets are shown to the model, and some are
hidden from it: the model has to rank these first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.scores import TaskScores

TOP = 20

Matrix = npt.NDArray[np.float32]
"""(rows, candidates)."""


def recall_and_ndcg(scores: Matrix, shown: Matrix, hidden: Matrix, k: int = TOP) -> tuple[Matrix, Matrix]:
    """Recall@k and NDCG@k of each row (Järvelin and Kekäläinen 2002, with binary relevance).

    Args:
        scores: (rows, candidates), higher is better; candidates with equal scores are ranked by their index.
        shown: (rows, candidates), 1 for shown targets, which are not ranked.
        hidden: (rows, candidates), 1 for hidden targets; at least one per row.
        k: Length of the ranking, at least 1.

    Returns:
        (rows,) twice, 0 to 1: the share of the hidden targets in the top `k`, and their discounted cumulative gain
        relative to the best possible one.

    >>> one = lambda *x: np.array([x], dtype=np.float32)
    >>> [float(x[0]) for x in recall_and_ndcg(one(3, 2, 1), one(1, 0, 0), one(0, 1, 0), k=1)]
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
    """Mean recall@k and NDCG@k over the rows with hidden targets, with the standard errors of the means.

    Args:
        scores, shown, hidden, k: See `recall_and_ndcg`; rows without hidden targets are skipped.

    Returns:
        `examples` is the number of rows with hidden targets; all metrics are 0 if there are none.

    Raises:
        ValueError: The arrays have different shapes.
    """
    if not scores.shape == shown.shape == hidden.shape:
        raise ValueError(f"scores {scores.shape}, shown {shown.shape} and hidden {hidden.shape} differ in shape")
    rows = hidden.sum(1) > 0
    names = (f"recall_at_{k}", f"ndcg_at_{k}")
    if not rows.any():
        return TaskScores(0, dict.fromkeys(names, 0.0), errors=dict.fromkeys(names, 0.0))
    values = dict(zip(names, recall_and_ndcg(scores[rows], shown[rows], hidden[rows], k), strict=True))
    number = int(rows.sum())
    return TaskScores(
        number,
        {name: float(of_rows.mean()) for name, of_rows in values.items()},
        errors={name: float(of_rows.std() / np.sqrt(number)) for name, of_rows in values.items()},
    )


def popularity(shown: Matrix, known: Matrix) -> Matrix:
    """Score each candidate by the number of known rows that have it; the scores of all rows are the same.

    Args:
        shown: (rows, candidates); only its shape is used.
        known: (known rows, candidates), 1 for the targets of rows that are known completely.
    """
    return np.broadcast_to(known.sum(0), shown.shape).astype(np.float32)


def item_cosine(shown: Matrix, known: Matrix) -> Matrix:
    """Score each candidate by the sum of its cosine similarities with the shown targets.

    A candidate is the vector of the known rows that have it (item-based collaborative filtering, Sarwar et al.
    2001).

    Args:
        shown: (rows, candidates), 1 for shown targets.
        known: (known rows, candidates), 1 for the targets of rows that are known completely.

    Returns:
        (rows, candidates); 0 for a row without shown targets.
    """
    together = known.T @ known  # (candidates, candidates)
    length = np.sqrt(np.diag(together)).clip(1e-6)
    np.fill_diagonal(together, 0.0)
    return np.asarray((shown / length) @ together / length, dtype=np.float32)
