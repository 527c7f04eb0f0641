"""The versions that policies would have made, really trained, and how good what served was over time.

    journal ──> Backtest of a policy ──trigger──> run ──> gate ──answer──┐
                     └──<──────────── as long after the trigger as assumed ┘
    promoted versions ──> scores on one holdout ──> score over time, of each policy

Each policy has a folder of its own, named after its rules: what is there is not trained again, also after a kill.
All policies have the same holdout: what is held out of the journal at its end. So a version is judged by what is
true now, and a policy by how early it served a version that is good at that.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from schemas.exclusions import FeedOf, parse_exclusions
from schemas.journal import Tick
from schemas.policy import Policy
from schemas.scores import TaskScores
from streams.core.backtest import Backtest
from sx9_ml_models.backtest.replay import feed
from sx9_ml_models.rebuild.command import progress_of
from sx9_ml_models.rebuild.holdout import common_holdout, score_version, value_of
from sx9_ml_models.rebuild.remaining import RemainingJournal
from sx9_ml_models.rebuild.run import Rebuild, Rebuilt
from sx9_ml_models.rebuild.scope import Plan, Scope
from trainers.core.dataset import OffsetExample
from trainers.runs.evaluation import Evaluate, evaluate_in_process
from trainers.runs.run_process import Run, run_in_process
from trainers.settings import TrainerSettings
from trainers.store.journal_copy import JournalCopy
from transport.partition_log import PartitionLog

log = logging.getLogger(__name__)

Scores = dict[str, TaskScores]
"""Task -> scores."""
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """A version that served under a policy, from a time by the ticks on; `scores` are on the common holdout."""

    version: str
    from_ms: int
    scores: Scores


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a policy.

    Attributes:
        folder: Of its versions.
        versions: All of them, promoted or refused.
        served: The promoted ones.
        start_ms, end_ms: The first and the last tick of the journal.
        processor_s: Processor time of all runs.
    """

    folder: str
    versions: tuple[Rebuilt, ...]
    served: tuple[Served, ...]
    start_ms: int
    end_ms: int
    processor_s: float

    def mean(self, task: str, metric: str) -> float:
        """The mean of a metric over the time of the journal; 0 as long as nothing served."""
        if self.end_ms <= self.start_ms:
            return 0.0
        ends = [*(each.from_ms for each in self.served), self.end_ms]
        parts = zip(self.served, pairwise(ends), strict=True)
        area = sum(value_of(each.scores, task, metric) * (end - start) for each, (start, end) in parts)
        return area / (self.end_ms - self.start_ms)

    def last(self, task: str, metric: str) -> float:
        """A metric of what served at the end; 0 if nothing did."""
        return value_of(self.served[-1].scores, task, metric) if self.served else 0.0


class PolicyTrainer:
    """Trains what policies trigger on one journal.

    Args:
        model: The model.
        journal: Its journal.
        scope: Where it ends, and what earlier lineage changes took out.
        feed_of: The feed of an event.
        folder: Of all policies.
        trainer: Names the recorded versions, and the folder of base models.
        answer_after_ms: How long after its trigger a version answers, by the ticks.
        holdout: Examples to score on, at most.
        run, evaluate: Train and score a version.

    Attributes:
        examples: The holdout, once a policy was trained.
    """

    def __init__(
        self, model: str, journal: PartitionLog, scope: Scope, feed_of: FeedOf, folder: Path,
        trainer: TrainerSettings, *, answer_after_ms: int, holdout: int, run: Run = run_in_process,
        evaluate: Evaluate = evaluate_in_process,
    ) -> None:  # fmt: skip
        self.examples: list[OffsetExample] = []
        self._model, self._scope, self._folder, self._trainer = model, scope, folder, trainer
        self._answer_after_ms, self._holdout = answer_after_ms, holdout
        self._run, self._evaluate = run, evaluate
        self._journal = RemainingJournal(journal, scope.end, parse_exclusions(scope.exclusions), feed_of)

    def train(self, name: str, policy: Policy | None) -> tuple[Backtest, Trained]:
        """Train what a policy triggers; None: the recorded rules.

        Raises:
            BadConfiguration: The machine is not suitable.
            RetryLater: A run failed; the next call continues.
        """
        rules = _digest(policy, self._answer_after_ms)
        folder = self._folder / f"{_NOT_PLAIN.sub('-', name)[:60].lstrip('.')}-{rules[:12]}"
        plan = Plan(model=self._model, anew=True, rules=rules)
        rebuild = Rebuild(plan, self._scope, self._journal, folder, self._trainer, self._run, progress_of)
        backtests: list[Backtest] = []

        def fold(copy: JournalCopy) -> None:
            copy.catch_up()
            backtest = Backtest(
                self._model, policy, self._answer_after_ms, train=lambda trigger: rebuild.answer(trigger, copy)
            )
            backtests.append(backtest)
            feed(self._journal, [backtest])

        versions = tuple(rebuild.train(fold))
        return backtests[0], self._scored(rebuild, backtests[0], versions, folder)

    def _scored(self, rebuild: Rebuild, backtest: Backtest, versions: Sequence[Rebuilt], folder: Path) -> Trained:
        self.examples = self.examples or common_holdout(rebuild.copy_path, self._scope.end, self._holdout)
        promoted_ms = {retrain.version: retrain.promoted_ms for retrain in backtest.retrains}
        served = [
            Served(
                version=each.version, from_ms=promoted_ms[each.version], scores=self._scores(rebuild, each.version)
            )
            for each in versions
            if each.promoted
        ]
        manifests = rebuild.registry.versions(self._model)
        return Trained(
            folder=str(folder),
            versions=tuple(versions),
            served=tuple(served),
            start_ms=self._first_tick_ms(),
            end_ms=backtest.state.now_ms,
            processor_s=sum(phase.processor_seconds for m in manifests for phase in m.phases.values()),
        )

    def _scores(self, rebuild: Rebuild, version: str) -> Scores:
        if not self.examples:
            return {}
        everything = (tuple(range(len(self.examples))),)
        (scores,) = score_version(rebuild, version, self.examples, everything, rebuild.copy_path, self._evaluate)
        return scores

    def _first_tick_ms(self) -> int:
        return next((record.time_ms for _, record in self._journal.records() if isinstance(record, Tick)), 0)


def main_metrics(policies: Sequence[Trained]) -> list[tuple[str, str]]:
    """The first metric of each task that a version of a policy has examples of: micro F1, recall, ..."""
    found: dict[str, str] = {}
    for trained in policies:
        for served in trained.served:
            for task, scores in served.scores.items():
                if scores.examples and scores.metrics:
                    found.setdefault(task, next(iter(scores.metrics)))
    return list(found.items())


def _digest(policy: Policy | None, answer_after_ms: int) -> str:
    """32 hex digits, equal for equal rules."""
    return hashlib.blake2b(msgspec.json.encode((policy, answer_after_ms)), digest_size=16).hexdigest()
