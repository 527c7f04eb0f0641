"""The Prometheus metrics of a trainer, in one table. Base units, unit suffixes, few and bounded labels.

| about    | metrics |
| runs     | duration, triggers answered by outcome, failures by type, faults of the machine in a row,
|          | damaged copies of the journal, embeddings not in Neo4j, MLflow failures, pictures not made |
| versions | evaluation scores, the version that serves, its promotion time, the age of its newest event then |
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from schemas.scores import Evaluation

_SECONDS = (3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 14_400.0)

TRAINING_SECONDS = Histogram(
    "sx9_training_duration_seconds", "Duration of a run, including evaluation", ["model"], buckets=_SECONDS
)
ANSWERED = Counter("sx9_triggers_answered_total", "Triggers answered", ["model", "outcome"])
TRACKING_FAILURES = Counter(
    "sx9_tracking_failures_total", "Failures to mirror versions to MLflow", ["model", "error"]
)
LEFT_OUT = Counter("sx9_files_left_out_total", "Pictures and cards that could not be made", ["model", "file"])
FAILURES = Counter("sx9_training_failures_total", "Runs that failed", ["model", "error"])
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
SCORE = Gauge("sx9_evaluation_score", "Scores of the latest version", ["model", "task", "split", "metric"])
PARENT_SCORE = Gauge(
    "sx9_parent_evaluation_score", "Scores of its parent on the same examples", ["model", "task", "split", "metric"]
)
VERSION = Gauge("sx9_model_version_info", "1 for the version that serves", ["model", "version"])
PROMOTED_AT = Gauge("sx9_champion_promotion_timestamp_seconds", "When the champion was promoted", ["model"])
FRESHNESS = Gauge(
    "sx9_event_to_serving_seconds", "From the newest event in the champion to its promotion", ["model"]
)


def show_scores(model: str, evaluation: Evaluation, parent_evaluation: Evaluation) -> None:
    """Set the gauges to the scores of the latest version and its parent. Scores of earlier versions are removed."""
    for gauge, shown in ((SCORE, evaluation), (PARENT_SCORE, parent_evaluation)):
        gauge.clear()
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
    VERSION.clear()
    VERSION.labels(model=model, version=version).set(1)
    PROMOTED_AT.labels(model=model).set(promoted_ms / 1000)
    if newest_event_ms:
        FRESHNESS.labels(model=model).set((promoted_ms - newest_event_ms) / 1000)
