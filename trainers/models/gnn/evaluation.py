"""Evaluate a network: hidden links of sources as rankings, tactics of techniques as a multi-label classification.

holdout links ──> cases: a source, the techniques that its row shows, those to find ──> recall, NDCG
holdout techniques ──> probabilities, threshold ──> micro and macro F1
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from schemas.journal import Link
from schemas.scores import HOLDOUT, OLD, PREQUENTIAL, RECENT, TACTICS, TECHNIQUES, Evaluation, TaskScores, merge
from trainers.core.dataset import Dataset, OffsetExample
from trainers.core.metrics.classification import classification_scores, extend_labels, label_matrix
from trainers.core.metrics.ranking import Matrix, ranking_scores
from trainers.core.progress import ProgressCallback, RunProgress
from trainers.models.gnn.examples import predicted_links, techniques_with_tactics
from trainers.models.gnn.graph import LinkRow, multi_hot, row_label
from trainers.models.gnn.neighbourhood import GraphViews
from trainers.models.gnn.network import ThreatGnn
from trainers.models.gnn.scoring import score_rows, tactic_probabilities


class RankingCases(msgspec.Struct, frozen=True):
    """Sources with links to find.

    Attributes:
        rows: A row of each source; its targets are shown to the network.
        excluded: (rows, targets), float32, 1 for a technique that is not ranked, else 0.
        hidden: (rows, targets), float32, 1 for a technique to find, else 0.
    """

    rows: tuple[LinkRow, ...]
    excluded: Matrix
    hidden: Matrix


def ranking_cases(views: GraphViews, links: Iterable[Link], other_links: Iterable[Link] = ()) -> RankingCases:
    """Group links to find by their rows.

    Args:
        views: A link whose source or target is no node of the graph is left out.
        links: To find.
        other_links: Also true, but not to find here: their techniques are not ranked.
    """
    column = {node: i for i, node in enumerate(views.graph.targets)}
    hidden = _targets_by_row(views, links, column)
    others = _targets_by_row(views, other_links, column)
    shown = {(row.source, row.label): row.targets for row in views.rows}
    rows = tuple(LinkRow(source, label, shown.get((source, label), ())) for source, label in sorted(hidden))
    to_find = [hidden[row.source, row.label] - set(row.targets) for row in rows]
    excluded = [
        {*row.targets, *others.get((row.source, row.label), set())} - found
        for row, found in zip(rows, to_find, strict=True)
    ]
    return RankingCases(rows, multi_hot(excluded, column), multi_hot(to_find, column))


def _targets_by_row(
    views: GraphViews, links: Iterable[Link], column: dict[int, int]
) -> dict[tuple[int, str], set[int]]:
    """(source, label) -> targets, all as node indices."""
    targets: dict[tuple[int, str], set[int]] = {}
    for link in links:
        source, target = views.index.get(link.source), views.index.get(link.target)
        if source is not None and target in column:
            targets.setdefault((source, row_label(link)), set()).add(target)
    return targets


def tactic_scores(
    probabilities: Matrix, truth: Sequence[Sequence[str]], tactics: Sequence[str], threshold: float
) -> TaskScores:
    """Scores of predicted tactics.

    Args:
        probabilities: (techniques, tactics).
        truth: Tactics of each technique; those that are not in `tactics` count as missed.
        tactics: Names of the columns.
        threshold: A tactic is predicted from this probability on.
    """
    labels = extend_labels(tactics, truth)
    predicted = np.zeros((len(truth), len(labels)), dtype=np.bool_)
    predicted[:, : len(tactics)] = probabilities >= threshold
    return classification_scores(label_matrix(truth, labels), predicted, labels)


class Evaluator(msgspec.Struct, frozen=True):
    """Evaluates a network on a dataset; it may be trained further between two evaluations.

    Attributes:
        network: The network.
        views: Of the graph without the holdout links.
        data: The dataset.
        holdout_links: Links that are true but not in the graph.
        threshold: A tactic is predicted from this probability on.
        on_progress: Called after every split.
    """

    network: ThreatGnn
    views: GraphViews
    data: Dataset
    holdout_links: frozenset[Link]
    threshold: float
    on_progress: ProgressCallback

    def on_holdout(self, phase: str) -> Evaluation:
        """Scores on the splits of the holdout.

        Args:
            phase: For the progress.
        """
        old, recent = self.data.old, self.data.recent
        splits = {OLD: old, RECENT: recent, HOLDOUT: old + recent}
        evaluation: Evaluation = {}
        for step, (split, examples) in enumerate(splits.items(), 1):
            cases = ranking_cases(self.views, predicted_links(examples), self.holdout_links)
            evaluation = merge(evaluation, self._on_split(split, examples, self.views, cases))
            self.on_progress(RunProgress(phase, step, len(splits)))
        return evaluation

    def on_window(self) -> Evaluation:
        """Prequential scores: on the links and techniques of the window, in a graph without these links."""
        fresh = self.data.fresh
        before = self.views.without_links(example.link for _, example in fresh if example.link)
        cases = ranking_cases(before, predicted_links(fresh))
        evaluation = self._on_split(PREQUENTIAL, fresh, before, cases)
        self.on_progress(RunProgress("scoring the champion", 0, 3))
        return evaluation

    def on_parts(self, parts: Sequence[Sequence[int]]) -> list[dict[str, TaskScores]]:
        """Scores on parts of the holdout; each source and each technique is scored once.

        Args:
            parts: Indices of the examples of each part.
        """
        examples, views = self.data.old + self.data.recent, self.views
        every = ranking_cases(views, predicted_links(examples), self.holdout_links)
        ranked = {(row.source, row.label): i for i, row in enumerate(every.rows)}
        ranking = self._rank(views, every.rows)
        self.on_progress(RunProgress("scoring the holdout", 1, 2))
        names = sorted({name for name, _ in techniques_with_tactics(examples) if name in views.index})
        probabilities = (
            dict(zip(names, self._probabilities(names, views), strict=True)) if self._has_tactics else {}
        )
        self.on_progress(RunProgress("scoring the holdout", 2, 2))
        found: list[dict[str, TaskScores]] = []
        for part in parts:
            of_part = [examples[i] for i in part]
            cases = ranking_cases(views, predicted_links(of_part), self.holdout_links)
            scores = ranking[[ranked[row.source, row.label] for row in cases.rows]]
            found.append({TECHNIQUES: ranking_scores(scores, cases.excluded, cases.hidden)})
            if self._has_tactics:
                found[-1][TACTICS] = self._tactics_of(of_part, probabilities)
        return found

    def _on_split(
        self, split: str, examples: Sequence[OffsetExample], views: GraphViews, cases: RankingCases
    ) -> Evaluation:
        scores = ranking_scores(self._rank(views, cases.rows), cases.excluded, cases.hidden)
        evaluation: Evaluation = {TECHNIQUES: {split: scores}}
        if self._has_tactics:
            evaluation[TACTICS] = {split: self._tactics(examples, views)}
        return evaluation

    def _rank(self, views: GraphViews, rows: Sequence[LinkRow]) -> Matrix:
        """(rows, targets), scores in the order of the graph's targets."""
        around = views.around([row.source for row in rows], 0)
        scores = score_rows(self.network, around.view, around.localize(rows))
        return scores[:, [around.view.column[around.position[node]] for node in views.graph.targets]]

    @property
    def _has_tactics(self) -> bool:
        return bool(self.network.shape.tactics)

    def _tactics(self, examples: Sequence[OffsetExample], views: GraphViews) -> TaskScores:
        names = [name for name, _ in techniques_with_tactics(examples) if name in views.index]
        return self._tactics_of(examples, dict(zip(names, self._probabilities(names, views), strict=True)))

    def _probabilities(self, techniques: Sequence[str], views: GraphViews) -> Matrix:
        """(techniques, tactics), of techniques of the graph."""
        nodes = [views.index[name] for name in techniques]
        around = views.around(nodes, 0)
        return tactic_probabilities(self.network, around.view, [around.position[node] for node in nodes])

    def _tactics_of(self, examples: Sequence[OffsetExample], probabilities: Mapping[str, Matrix]) -> TaskScores:
        """Scores of the techniques among some examples that have probabilities."""
        techniques = [each for each in techniques_with_tactics(examples) if each[0] in probabilities]
        tactics = self.network.shape.tactics
        rows = [probabilities[name] for name, _ in techniques]
        matrix = np.array(rows, dtype=np.float32).reshape(len(rows), len(tactics))
        return tactic_scores(matrix, [names for _, names in techniques], tactics, self.threshold)
