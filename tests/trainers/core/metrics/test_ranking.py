"""Metrics of rankings, and the simple rankers."""

from __future__ import annotations

import numpy as np
import pytest

from trainers.core.metrics.ranking import item_cosine, ranking_scores, recall_and_ndcg


def test_a_ranking_leaves_out_what_is_known_and_counts_what_is_found() -> None:
    scores = np.array([[9.0, 1.0, 2.0, 0.0]], dtype=np.float32)
    shown = np.array([[1.0, 0.0, 0.0, 0.0]], dtype=np.float32)
    hidden = np.array([[0.0, 1.0, 0.0, 1.0]], dtype=np.float32)
    recall, ndcg = recall_and_ndcg(scores, shown, hidden, k=2)
    assert recall[0] == 0.5
    assert ndcg[0] == pytest.approx(np.log2(3) ** -1 / (1 + np.log2(3) ** -1))
    assert ranking_scores(scores, shown, 0 * hidden).examples == 0


def test_item_cosine_prefers_targets_that_occur_together() -> None:
    known = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=np.float32)
    assert item_cosine(np.array([[1, 0, 0]], dtype=np.float32), known).argmax() == 1
