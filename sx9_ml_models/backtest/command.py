"""What `sx9 backtest` does, from its arguments to a comparison."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from schemas.policy import Policy
from streams.core.backtest import Backtest
from streams.settings import Settings
from sx9_ml_models.backtest.compare import RECORDED_RULES, Comparison, compare, policies_of
from sx9_ml_models.backtest.replay import no_progress
from sx9_ml_models.backtest.trained import PolicyTrainer, Trained
from sx9_ml_models.journals import open_journal
from sx9_ml_models.rebuild.command import check_output, feeds_of
from sx9_ml_models.rebuild.remaining import RemainingJournal
from sx9_ml_models.rebuild.run import PLAN, keep_plan
from sx9_ml_models.rebuild.scope import Plan, scope_of
from trainers.runs.evaluation import Evaluate, evaluate_in_process
from trainers.runs.run_process import Run, run_in_process
from trainers.settings import TrainerSettings
from trainers.store.shared_registry import open_registry
from transport.partition_log import PartitionLog

log = logging.getLogger(__name__)

TRAINED = "trained"
"""Folder of the versions of `--train`, in that of the backtest."""


def backtest(
    model: str,
    files: Sequence[Path],
    file: Path | None,
    settings: Settings,
    trainer: TrainerSettings,
    *,
    answer_after_s: float,
    on_progress: Callable[[int, int], None] = no_progress,
) -> Comparison:
    """Compare policies on the journal; nothing is trained.

    Args:
        model: The model.
        files: Policy files.
        file: A file of the journal; None: read it from Kafka.
        settings, trainer: Name Kafka, and the versions that say what an example costs.
        answer_after_s: How long a run is assumed to take, seconds by the ticks.
        on_progress: Called with the next offset and the end offset.

    Raises:
        BadConfiguration: A policy file can't be used.
    """
    policies, manifests = policies_of(files, model), open_registry(trainer).versions(model)
    with open_journal(model, file, settings) as journal:
        return compare(model, journal, policies, manifests, answer_after_s=answer_after_s, on_progress=on_progress)


def trained_backtest(
    model: str,
    files: Sequence[Path],
    file: Path | None,
    folder: Path,
    settings: Settings,
    trainer: TrainerSettings,
    *,
    answer_after_s: float,
    holdout: int,
    run: Run = run_in_process,
    evaluate: Evaluate = evaluate_in_process,
) -> Comparison:
    """Compare policies on the journal, and train the versions that each would have made. What serves stays.

    Args:
        model, files, file, settings, trainer, answer_after_s: See `backtest`.
        folder: Of the backtest. A call with the same folder continues, up to the same offset of the journal.
        holdout: Examples to score on, at most.
        run: Trains a version.
        evaluate: Scores a version.

    Raises:
        BadConfiguration: A policy file can't be used, or the folder is of another journal.
        RetryLater: A run failed; the next call continues.
    """
    policies, manifests = policies_of(files, model), open_registry(trainer).versions(model)
    home, plan = folder / TRAINED / model, Plan(model=model, anew=True)
    check_output(home.parent, trainer)
    keep_plan(home / PLAN, plan)
    with open_journal(model, file, settings) as journal:
        scope = scope_of(plan, journal, home)
        with feeds_of(scope.exclusions, file, settings) as feed_of:
            teacher = PolicyTrainer(
                model, journal, scope, feed_of, home, trainer, answer_after_ms=round(answer_after_s * 1000),
                holdout=holdout, run=run, evaluate=evaluate,
            )  # fmt: skip
            rules: dict[str, Policy | None] = {RECORDED_RULES: None, **policies}
            whole: PartitionLog = RemainingJournal(journal, scope.end, (), feed_of)
            expected = compare(model, whole, policies, manifests, answer_after_s=answer_after_s)
            left_s = {each.name: each.processor_s or 0.0 for each in expected.outcomes}
            trained: dict[str, tuple[Backtest, Trained]] = {}
            for name, policy in rules.items():
                _say(name, len(trained) + 1, len(rules), sum(left_s[each] for each in rules if each not in trained))
                trained[name] = teacher.train(name, policy)
            return compare(
                model, whole, policies, manifests, answer_after_s=answer_after_s, trained=trained,
                holdout=len(teacher.examples),
            )  # fmt: skip


def _say(name: str, number: int, policies: int, left_s: float) -> None:
    left = f"; about {left_s / 60:.0f} min of processor time left, by the recorded versions" if left_s else ""
    log.info("training the versions of %s (%d of %d)%s", name, number, policies, left)
