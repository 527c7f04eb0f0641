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
from schemas.journal import Record
from schemas.policy import Policy
from schemas.versions import Manifest
from streams.app.policy_file import load_policies
from streams.core.backtest import Backtest, Retrain
from sx9_ml_models.journals import history_of
from transport.partition_log import PartitionLog
from transport.records import decoded

RECORDED = "as recorded"
"""The outcome of the recorded rules and answers: what happened."""
RECORDED_RULES = "recorded rules"
"""The outcome of the recorded rules with the answers of a backtest: what the others are to be compared with."""


def no_progress(done: int, total: int) -> None:
    """Ignore the progress."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy did on a journal. Times are those of the ticks.

    Attributes:
        name: `RECORDED`, `RECORDED_RULES`, or the name of the policy.
        retrains: What it triggered, in order.
        learnt: Examples that the promoted versions learnt as new.
        waiting: Examples that no promoted version had learnt at the end of the journal.
        oldest_waiting_s: How long the oldest of these had waited.
        median_wait_s, p95_wait_s: How long the learnt ones had waited, to one percent.
        processor_s: Estimated processor time of all retrains; None: no version says what an example costs.
    """

    name: str
    retrains: tuple[Retrain, ...]
    learnt: int
    waiting: int
    oldest_waiting_s: float
    median_wait_s: float
    p95_wait_s: float
    processor_s: float | None

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
    """

    model: str
    records: int
    answer_after_s: float
    example_processor_s: float | None
    versions: int
    outcomes: tuple[Outcome, ...]


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
    on_progress: Callable[[int, int], None] = no_progress,
) -> Comparison:
    """Backtest policies, beside the recorded rules. The memory does not grow with the journal.

    Args:
        model: The model.
        log: Its journal.
        policies: Name -> policy.
        manifests: Versions of the model, which say what an example costs.
        answer_after_s: How long a run is assumed to take, seconds by the ticks.
        on_progress: Called with the next offset and the end offset.
    """
    answer_after_ms = round(answer_after_s * 1000)
    backtests = {
        RECORDED: Backtest(model, None, None, history_of(log)),
        RECORDED_RULES: Backtest(model, None, answer_after_ms),
    } | {name: Backtest(model, policy, answer_after_ms) for name, policy in policies.items()}
    records = feed(log, list(backtests.values()), on_progress)
    cost, versions = example_processor_s(manifests)
    return Comparison(
        model=model,
        records=records,
        answer_after_s=answer_after_s,
        example_processor_s=cost,
        versions=versions,
        outcomes=tuple(_outcome(name, backtest, cost) for name, backtest in backtests.items()),
    )


def feed(
    log: PartitionLog,
    backtests: Sequence[Backtest],
    on_progress: Callable[[int, int], None] = no_progress,
) -> int:
    """Feed every record of a journal to some backtests. Returns the number of records."""
    end, records = log.end(), 0
    for messages in log.read(0, end):
        for message, record in decoded(messages, Record, log.topic, log.partition):
            records += 1
            for backtest in backtests:
                backtest.feed(message.offset, record)
        on_progress(messages[-1].offset + 1, end)
    return records


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


def _outcome(name: str, backtest: Backtest, example_s: float | None) -> Outcome:
    waits, retrains = backtest.waits, tuple(backtest.retrains)
    trained = sum(retrain.examples + retrain.rehearsal for retrain in retrains)
    return Outcome(
        name=name,
        retrains=retrains,
        learnt=waits.learnt,
        waiting=waits.waiting,
        oldest_waiting_s=waits.oldest_s(backtest.state.now_ms),
        median_wait_s=waits.quantile_s(0.5),
        p95_wait_s=waits.quantile_s(0.95),
        processor_s=None if example_s is None else example_s * trained,
    )


def as_plain(comparison: Comparison) -> dict[str, Any]:
    """A comparison as plain objects, for JSON."""
    plain: dict[str, Any] = msgspec.to_builtins(comparison)
    for outcome, row in zip(comparison.outcomes, plain["outcomes"], strict=True):
        row["reasons"], row["examples"] = outcome.reasons, outcome.examples
    return plain
