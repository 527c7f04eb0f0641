"""Simple methods on the same holdout: popularity and frequent tactics, item cosine, TF-IDF with a linear SVM."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.journal import Link
from schemas.scores import HOLDOUT, TACTICS, TECHNIQUES, Evaluation
from trainers.core.baselines.tfidf import tfidf_linear_svm
from trainers.core.dataset import Dataset
from trainers.core.metrics.classification import label_matrix, most_frequent_labels
from trainers.core.metrics.ranking import Matrix, item_cosine, popularity, ranking_scores
from trainers.models.gnn.evaluation import RankingCases, ranking_cases, tactic_scores
from trainers.models.gnn.examples import predicted_links, techniques_with_tactics
from trainers.models.gnn.graph import multi_hot
from trainers.models.gnn.neighbourhood import GraphViews
from trainers.models.gnn.text_features import node_text

POPULARITY, ITEM_COSINE, LINEAR = "popularity", "item cosine", "TF-IDF + linear"
_RANKERS = {POPULARITY: popularity, ITEM_COSINE: item_cosine}
_THRESHOLD = 0.5
"""Predictions of these methods are 0 or 1."""


def evaluate_baselines(
    views: GraphViews, data: Dataset, holdout_links: frozenset[Link], tactics: Sequence[str]
) -> tuple[Evaluation, dict[str, Evaluation]]:
    """Evaluate the simple methods on the holdout.

    Args:
        views: Of the graph without the holdout links.
        data: The dataset.
        holdout_links: Links that are true but not in the graph.
        tactics: That the network knows; without any, tactics are not evaluated.

    Returns:
        The trivial baseline (popularity, and the most frequent tactics), and baseline -> its evaluation.
    """
    cases = ranking_cases(views, predicted_links(data.old + data.recent), holdout_links)
    rankings = _rankings(views, cases)
    scores = {name: ranking_scores(each, cases.excluded, cases.hidden) for name, each in rankings.items()}
    trivial: Evaluation = {TECHNIQUES: {HOLDOUT: scores[POPULARITY]}}
    baselines: dict[str, Evaluation] = {ITEM_COSINE: {TECHNIQUES: {HOLDOUT: scores[ITEM_COSINE]}}}
    if not tactics:
        return trivial, baselines
    train = techniques_with_tactics(data.train)
    holdout = techniques_with_tactics(data.old + data.recent)
    truth = [names for _, names in holdout]
    frequent = most_frequent_labels(names for _, names in train)
    guess = label_matrix([frequent] * len(holdout), tactics).astype(np.float32)
    trivial[TACTICS] = {HOLDOUT: tactic_scores(guess, truth, tactics, _THRESHOLD)}
    texts = {node.id: node_text(node) for node in views.graph.nodes}
    predicted = tfidf_linear_svm(
        [texts[name] for name, _ in train],
        [names for _, names in train],
        [texts[name] for name, _ in holdout],
        tactics,
    )
    baselines[LINEAR] = {TACTICS: {HOLDOUT: tactic_scores(predicted, truth, tactics, _THRESHOLD)}}
    return trivial, baselines


def _rankings(views: GraphViews, cases: RankingCases) -> dict[str, Matrix]:
    """Method -> scores of the cases, (rows, targets), each computed from the rows of the same relation."""
    column = {node: i for i, node in enumerate(views.graph.targets)}
    shown = multi_hot([row.targets for row in cases.rows], column)
    scores = {name: np.zeros_like(cases.excluded) for name in _RANKERS}
    for relation in {row.relation for row in cases.rows}:
        indices = [i for i, row in enumerate(cases.rows) if row.relation == relation]
        known = multi_hot([row.targets for row in views.rows if row.relation == relation], column)
        for name, rank in _RANKERS.items():
            scores[name][indices] = rank(shown[indices], known)
    return scores
