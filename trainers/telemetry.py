"""The Prometheus metrics of a trainer, in one table. Base units, unit suffixes, few and bounded labels.

| about    | metrics |
| scoring  | new examples scored by the champion, failures
| runs     | the run in progress, duration, triggers answered by outcome, failures by type, faults of the machine
|          | in a row, damaged copies of the journal, embeddings not in Neo4j, MLflow failures, pictures not made |
| versions | evaluation scores, failed checks of the gate, refusals in a row, the latest answers, the version that
|          | serves, its promotion time, the age of its newest event then |

A gauge is set again at every start, from the version events and the manifests; a counter begins at 0. All
of them are listed in `docs/metrics.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from schemas.scores import Evaluation
from schemas.versions import GateCheck, Outcome
from transport.metrics import forget

MAX_SHORTFALLS = 20
"""The names of checks can hold labels of feeds, so only this number of series is shown for a model."""
_SECONDS = (3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 14_400.0)

TRAINING_SECONDS = Histogram(
    "sx9_training_duration_seconds", "Duration of a run, including evaluation", ["model"], buckets=_SECONDS
)
RUN_IN_PROGRESS = Gauge("sx9_training_in_progress", "1 while a run is going on", ["model"])
RUN_STEPS_DONE = Gauge(
    "sx9_training_steps_done", "Steps that a phase of the run in progress has done", ["model", "phase"]
)
RUN_STEPS = Gauge("sx9_training_steps", "Steps that a phase of the run in progress has", ["model", "phase"])
RUN_LOSS = Gauge("sx9_training_loss", "Loss of the latest step of the run in progress", ["model"])
RUN_LEFT = Gauge(
    "sx9_training_left_seconds",
    "Estimate of the time until a phase of the run in progress ends",
    ["model", "phase"],
)
ANSWERED = Counter("sx9_triggers_answered_total", "Triggers answered", ["model", "outcome"])
TRACKING_FAILURES = Counter(
    "sx9_tracking_failures_total", "Failures to mirror versions to MLflow", ["model", "error"]
)
LEFT_OUT = Counter("sx9_files_left_out_total", "Pictures and cards that could not be made", ["model", "file"])
FAILURES = Counter("sx9_training_failures_total", "Runs that failed", ["model", "error"])
EXAMPLES_SCORED = Counter(
    "sx9_examples_scored_total", "New examples that the champion scored, for the drift of inputs and performance",
    ["model"],
)  # fmt: skip
SCORING_FAILURES = Counter(
    "sx9_scoring_failures_total", "Failures to score new examples; they are tried again", ["model", "error"]
)
FAULTS = Gauge(
    "sx9_training_faults",
    "Faults of this machine in a row at the trigger in work, such as a full disk; 0 once it is answered",
    ["model"],
)
EMBEDDINGS_PENDING = Gauge(
    "sx9_embeddings_pending", "1 while Neo4j lacks the node embeddings of the version that serves", ["model"]
)
JOURNAL_COPIES_REBUILT = Counter(
    "sx9_journal_copies_rebuilt_total", "Local copies of the journal that were damaged and made again"
)
NEIGHBOURS_KEPT = Gauge(
    "sx9_embedding_neighbours_kept_ratio",
    "Share of the ten nearest neighbours of a node that it kept from the parent to the latest version",
    ["model"],
)
EMBEDDING_DISTANCE = Gauge(
    "sx9_embedding_distance",
    "Mean distance of the embeddings of a node in the latest version and in its parent, after rotation, 0 to 2",
    ["model"],
)
SCORE = Gauge("sx9_evaluation_score", "Scores of the latest version", ["model", "task", "split", "metric"])
PARENT_SCORE = Gauge(
    "sx9_parent_evaluation_score", "Scores of its parent on the same examples", ["model", "task", "split", "metric"]
)
GATE_FAILED = Gauge(
    "sx9_gate_checks_failed", "Checks of the gate that the latest version failed; 0: it was promoted", ["model"]
)
GATE_SHORTFALL = Gauge(
    "sx9_gate_check_shortfall",
    "By how much the latest version is below what a check of the gate asks for; its 20 largest",
    ["model", "check"],
)
REFUSALS = Gauge("sx9_refusals_in_a_row", "Triggers refused since the latest promotion", ["model"])
ANSWERED_AT = Gauge(
    "sx9_last_answer_timestamp_seconds",
    "Time of the latest promotion and of the latest refusal",
    ["model", "outcome"],
)
VERSION = Gauge("sx9_model_version_info", "1 for the version that serves", ["model", "version"])
PROMOTED_AT = Gauge("sx9_champion_promotion_timestamp_seconds", "When the champion was promoted", ["model"])
NEWEST_EVENT_AT = Gauge(
    "sx9_champion_newest_event_timestamp_seconds", "Time of the newest event in the champion", ["model"]
)
FRESHNESS = Gauge(
    "sx9_event_to_serving_seconds", "From the newest event in the champion to its promotion", ["model"]
)
REBUILDABLE_UNTIL = Gauge(
    "sx9_versions_rebuildable_until_timestamp_seconds",
    "Until when every version that can be rebuilt now still can be, by retention of the journal and its archive; "
    "+Inf: for ever; NaN: the retention may not be read",
    ["model"],
)
NOT_REBUILDABLE = Gauge(
    "sx9_versions_not_rebuildable",
    "Versions whose part of the journal was deleted and is in no archive",
    ["model"],
)


def show_scores(model: str, evaluation: Evaluation, parent_evaluation: Evaluation) -> None:
    """Set the gauges to the scores of the latest version and its parent. Scores of earlier versions are removed."""
    for gauge, shown in ((SCORE, evaluation), (PARENT_SCORE, parent_evaluation)):
        forget(gauge, model=model)
        for task, splits in shown.items():
            for split, scores in splits.items():
                for metric, value in (scores.metrics | scores.extra).items():
                    gauge.labels(model=model, task=task, split=split, metric=metric).set(value)


def show_champion(model: str, version: str, promoted_ms: int, newest_event_ms: int) -> None:
    """Set the gauges of the version that serves.

    Args:
        model: Its model.
        version: Its name.
        promoted_ms: When it was promoted, ms since 1970.
        newest_event_ms: Broker time of the newest event that it was trained on, ms since 1970; 0 if unknown.
    """
    forget(VERSION, model=model)
    VERSION.labels(model=model, version=version).set(1)
    PROMOTED_AT.labels(model=model).set(promoted_ms / 1000)
    if newest_event_ms:
        NEWEST_EVENT_AT.labels(model=model).set(newest_event_ms / 1000)
        FRESHNESS.labels(model=model).set((promoted_ms - newest_event_ms) / 1000)


def show_movement(model: str, report: Mapping[str, Any]) -> None:
    """Set the gauges of the embeddings of the latest version, by its report; none for a model without nodes."""
    moved = report.get("embedding_movement")
    for gauge, name in ((NEIGHBOURS_KEPT, "neighbours_kept"), (EMBEDDING_DISTANCE, "distance")):
        forget(gauge, model=model)
        if moved:
            gauge.labels(model=model).set(moved[name])


def show_answers(model: str, latest_ms: Mapping[Outcome, int], refusals: int) -> None:
    """Set the gauges of the latest answers.

    Args:
        model: The model of the triggers.
        latest_ms: Outcome -> time of the latest answer with it, ms since 1970.
        refusals: How many refusals there were since the latest promotion.
    """
    forget(ANSWERED_AT, model=model)
    for outcome, time_ms in latest_ms.items():
        ANSWERED_AT.labels(model=model, outcome=outcome).set(time_ms / 1000)
    REFUSALS.labels(model=model).set(refusals)


def show_gate(model: str, checks: Sequence[GateCheck]) -> None:
    """Set the gauges of the gate to the checks of the latest version. Those of earlier versions are removed."""
    failed = [check for check in checks if not check.passed]
    shortfalls = {check.name: check.champion - check.margin - check.candidate for check in failed}
    GATE_FAILED.labels(model=model).set(len(failed))
    forget(GATE_SHORTFALL, model=model)
    for name in sorted(shortfalls, key=lambda name: -shortfalls[name])[:MAX_SHORTFALLS]:
        GATE_SHORTFALL.labels(model=model, check=name).set(shortfalls[name])
