"""Backtests of several policies, in one pass over a journal, and what each would have cost.

journal ──one pass──> Backtest of each policy ──> outcomes, side by side
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from schemas.errors import BadConfiguration
from schemas.policy import Policy
from schemas.versions import Manifest
from streams.app.policy_file import load_policies
from streams.core.backtest import Backtest, Retrain
from sx9_ml_models.backtest.replay import feed, no_progress
from sx9_ml_models.backtest.trained import Trained, main_metrics
from sx9_ml_models.journals import history_of
from transport.partition_log import PartitionLog

RECORDED = "as recorded"
"""The outcome of the recorded rules and answers: what happened."""
RECORDED_RULES = "recorded rules"
"""The outcome of the recorded rules with the answers of a backtest: what the others are to be compared with."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy did on a journal. Times are those of the ticks.

    Attributes:
        name: `RECORDED`, `RECORDED_RULES`, or the name of the policy.
        retrains: What it triggered, in order.
        learnt: Examples that the promoted versions learnt as new.
        waiting: Examples that no promoted version had learnt at the end of the journal.
        oldest_waiting_s: How long the oldest of these had waited.
        median_wait_s, p95_wait_s: How long the learnt ones had waited, to one percent.
        processor_s: Processor time of all retrains: estimated, or that of the runs where they were trained; None:
            no version says what an example costs.
        trained: What became of it; None: it was not trained.
    """

    name: str
    retrains: tuple[Retrain, ...]
    learnt: int
    waiting: int
    oldest_waiting_s: float
    median_wait_s: float
    p95_wait_s: float
    processor_s: float | None
    trained: Trained | None = None

    @property
    def reasons(self) -> dict[str, int]:
        """Reason -> retrains, the most frequent first."""
        return dict(Counter(retrain.reason for retrain in self.retrains).most_common())

    @property
    def examples(self) -> int:
        """New examples in all retrains."""
        return sum(retrain.examples for retrain in self.retrains)


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Outcomes of several policies on one journal.

    Attributes:
        model: The model.
        records: The number of journal records.
        answer_after_s: How long a run was assumed to take.
        example_processor_s: Processor time per example; None: unknown.
        versions: The number of versions it was measured on.
        outcomes: One each.
        holdout: Examples that the versions of trained policies are scored on.
    """

    model: str
    records: int
    answer_after_s: float
    example_processor_s: float | None
    versions: int
    outcomes: tuple[Outcome, ...]
    holdout: int = 0

    @property
    def main_metrics(self) -> list[tuple[str, str]]:
        """Task and metric of what is shown of trained policies; empty if none was trained."""
        return main_metrics([each.trained for each in self.outcomes if each.trained])


def policies_of(files: Sequence[Path], model: str) -> dict[str, Policy]:
    """Name of a policy file, without its extension -> its policy of a model.

    Raises:
        BadConfiguration: A file can't be used, or has no table of the model.
    """
    names = [file.stem for file in files]
    policies: dict[str, Policy] = {}
    for file in files:
        name = str(file) if names.count(file.stem) > 1 or file.stem in (RECORDED, RECORDED_RULES) else file.stem
        found = load_policies(file)
        if model not in found:
            raise BadConfiguration(f"{file} has no table [{model}]: add one, or choose its model with --model")
        policies[name] = found[model]
    return policies


def compare(
    model: str,
    log: PartitionLog,
    policies: Mapping[str, Policy],
    manifests: Sequence[Manifest],
    *,
    answer_after_s: float,
    trained: Mapping[str, tuple[Backtest, Trained]] = {},
    holdout: int = 0,
    on_progress: Callable[[int, int], None] = no_progress,
) -> Comparison:
    """Backtest policies, beside the recorded rules. The memory does not grow with the journal.

    Args:
        model: The model.
        log: Its journal.
        policies: Name -> policy.
        manifests: Versions of the model, which say what an example costs.
        answer_after_s: How long a run is assumed to take, seconds by the ticks.
        trained: Name -> what was trained instead of assumed; see `sx9_ml_models.backtest.trained`.
        holdout: Examples that their versions were scored on.
        on_progress: Called with the next offset and the end offset.
    """
    answer_after_ms = round(answer_after_s * 1000)
    backtests = {RECORDED: Backtest(model, None, None, history_of(log))}
    rules: dict[str, Policy | None] = {RECORDED_RULES: None, **policies}
    for name, policy in rules.items():
        backtests[name] = trained[name][0] if name in trained else Backtest(model, policy, answer_after_ms)
    records = feed(log, [each for name, each in backtests.items() if name not in trained], on_progress)
    cost, versions = example_processor_s(manifests)
    return Comparison(
        model=model,
        records=records,
        answer_after_s=answer_after_s,
        example_processor_s=cost,
        versions=versions,
        holdout=holdout,
        outcomes=tuple(
            _outcome(name, backtest, cost, trained[name][1] if name in trained else None)
            for name, backtest in backtests.items()
        ),
    )


def example_processor_s(manifests: Iterable[Manifest]) -> tuple[float | None, int]:
    """Processor seconds per training example, over some versions, and how many of them say it."""
    measured = [
        (sum(phase.processor_seconds for phase in manifest.phases.values()), manifest.examples_trained)
        for manifest in manifests
    ]
    measured = [(seconds, examples) for seconds, examples in measured if seconds and examples]
    if not measured:
        return None, 0
    return sum(seconds for seconds, _ in measured) / sum(examples for _, examples in measured), len(measured)


def _outcome(name: str, backtest: Backtest, example_s: float | None, trained: Trained | None) -> Outcome:
    waits, retrains = backtest.waits, tuple(backtest.retrains)
    estimated = None
    if example_s is not None:
        estimated = example_s * sum(retrain.examples + retrain.rehearsal for retrain in retrains)
    return Outcome(
        name=name,
        retrains=retrains,
        learnt=waits.learnt,
        waiting=waits.waiting,
        oldest_waiting_s=waits.oldest_s(backtest.state.now_ms),
        median_wait_s=waits.quantile_s(0.5),
        p95_wait_s=waits.quantile_s(0.95),
        processor_s=trained.processor_s if trained else estimated,
        trained=trained,
    )


def as_plain(comparison: Comparison) -> dict[str, Any]:
    """A comparison as plain objects, for JSON."""
    plain: dict[str, Any] = msgspec.to_builtins(comparison)
    for outcome, row in zip(comparison.outcomes, plain["outcomes"], strict=True):
        row["reasons"], row["examples"] = outcome.reasons, outcome.examples
        if outcome.trained:
            row["trained"]["mean"] = {
                task: {metric: outcome.trained.mean(task, metric)} for task, metric in comparison.main_metrics
            }
    return plain
