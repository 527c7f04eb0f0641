"""All Prometheus metrics of the streaming side. Base units, unit suffixes, few and bounded labels.

fetch    events published, dead letters by reason, duration, failures, time of the last complete fetch
roles    messages processed, retries, batch duration, lag
archive  records archived, time of the last run without a fault
journal  examples set aside, released, purged
fold     open window, pending examples, rules with their limits, drift, windows, triggers, the clock of the journal

A gauge is set again at every start, from the topics and the files; a counter begins at 0. All of them are listed in
`docs/metrics.md`.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_FAST = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_SLOW = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)

EVENTS_PUBLISHED = Counter(
    "sx9_events_published_total", "Events acknowledged by the broker, by kind of change", ["feed", "kind"]
)
EVENTS_REJECTED = Counter("sx9_events_rejected_total", "Dead letters written", ["feed", "reason"])
FETCH_SECONDS = Histogram("sx9_fetch_duration_seconds", "Duration of one fetch of a feed", ["feed"], buckets=_SLOW)
FETCHED_AT = Gauge("sx9_fetch_last_success_timestamp_seconds", "Time of the last complete fetch", ["feed"])
FETCH_INTERVAL = Gauge("sx9_fetch_interval_seconds", "Time between two fetches of a feed", ["feed"])
FETCH_NEXT = Gauge("sx9_fetch_next_timestamp_seconds", "Time of the next fetch that is planned", ["feed"])
FETCH_FAILURES = Counter("sx9_fetch_failures_total", "Fetches that ended in an error", ["feed", "error"])

MESSAGES_PROCESSED = Counter("sx9_messages_processed_total", "Messages that were written durably", ["role"])
RETRIES = Counter("sx9_batch_retries_total", "Batches repeated because a service did not answer", ["role"])
BATCH_SECONDS = Histogram(
    "sx9_batch_duration_seconds", "Duration of one attempt at a batch", ["role"], buckets=_FAST
)
LAG = Gauge(
    "sx9_consumer_lag_messages",
    "Messages that the role has not processed yet, also of partitions that no worker reads",
    ["role", "topic", "partition"],
)
RETENTION = Gauge(
    "sx9_topic_retention_seconds", "How long Kafka keeps the records of a topic; +Inf: for ever", ["topic"]
)

ARCHIVED = Counter("sx9_archived_records_total", "Records written to the archive", ["topic"])
ARCHIVE_INTERVAL = Gauge(
    "sx9_archive_interval_seconds", "Time between two runs of the archive; 0: this process archives nothing"
)
ARCHIVED_AT = Gauge(
    "sx9_archive_last_success_timestamp_seconds", "When all topics were last archived without a fault"
)

OPEN_WINDOW = Gauge("sx9_open_window_examples", "Training examples in the open window", ["model"])
WINDOW_LIMIT = Gauge("sx9_window_limit_examples", "Training examples at which the window closes", ["model"])
WINDOW_OPENED_AT = Gauge(
    "sx9_open_window_first_example_timestamp_seconds", "Time of the first example in the open window", ["model"]
)
WINDOW_AGE_LIMIT = Gauge("sx9_window_limit_seconds", "Age at which a window with examples closes", ["model"])
CLOCK = Gauge("sx9_journal_clock_timestamp_seconds", "Time of the latest tick in the journal", ["model"])
PENDING = Gauge("sx9_pending_examples", "Training examples that no champion was trained on", ["model"])
PENDING_SINCE = Gauge(
    "sx9_pending_since_timestamp_seconds", "Since when the oldest pending example waits", ["model"]
)
RULE_VALUE = Gauge("sx9_rule_value", "Value that a rule of retraining compares with its limit", ["model", "rule"])
RULE_LIMIT = Gauge("sx9_rule_limit", "Limit at which a rule of retraining trips", ["model", "rule"])
RULE_TRIPPED = Gauge("sx9_rule_tripped", "1 while a rule asks for a retrain", ["model", "rule"])
LAST_TRIGGER_AT = Gauge("sx9_last_trigger_timestamp_seconds", "Time of the latest decision to retrain", ["model"])
COOLDOWN = Gauge("sx9_trigger_cooldown_seconds", "Least time between two decisions to retrain", ["model"])
DRIFT = Gauge(
    "sx9_drift_distance",
    "Latest drift statistic: jensen_shannon and mmd are 0 to 1, page_hinkley is in standard deviations of a loss",
    ["model", "statistic"],
)
RETRAIN_BUDGET = Gauge("sx9_retrains_per_day_limit", "Retrains that a day may have; 0: no such budget", ["model"])
RETRAINS_OF_DAY = Gauge(
    "sx9_retrains_of_day", "Decisions to retrain within the last 24 hours, up to the budget", ["model"]
)
HELD_BACK = Gauge("sx9_retrain_held_back", "1 while a cause holds every rule back", ["model", "cause"])
DRIFT_THRESHOLD = Gauge(
    "sx9_drift_threshold", "Value of the drift statistic at which its rule trips", ["model", "statistic"]
)
QUARANTINE_WAITING = Gauge(
    "sx9_quarantine_waiting", "Examples set aside that wait for a verdict, by the rule", ["model", "feed", "reason"]
)
QUARANTINE_HELD = Counter("sx9_quarantine_held_total", "Examples set aside", ["model", "feed", "reason"])
QUARANTINE_RELEASED = Counter(
    "sx9_quarantine_released_total", "Examples that a person let out of quarantine", ["model", "feed"]
)
QUARANTINE_PURGED = Counter(
    "sx9_quarantine_purged_total", "Examples in quarantine that a person dropped for good", ["model", "feed"]
)
OPEN_TRIGGER = Gauge("sx9_trigger_unanswered", "1 while a trigger has no verdict yet", ["model"])
WINDOWS_CLOSED = Counter("sx9_windows_closed_total", "Windows closed", ["model", "closed_by"])
TRIGGERS = Counter("sx9_triggers_total", "Decisions to retrain", ["model", "reason"])
DECLINED = Counter("sx9_triggers_declined_total", "Decisions not to retrain", ["model"])


def show_role(role: str) -> None:
    """Start the counters of a role at 0, so that their first increase is seen."""
    MESSAGES_PROCESSED.labels(role=role)
    RETRIES.labels(role=role)
