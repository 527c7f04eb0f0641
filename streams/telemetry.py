"""All Prometheus metrics of the streaming side. Base units, unit suffixes, few and bounded labels.

fetch    events published, dead letters by reason, duration, failures, time of the last complete fetch
roles    messages processed, retries, batch duration, lag; of the fold: open window, drift, windows, triggers
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
FETCH_FAILURES = Counter("sx9_fetch_failures_total", "Fetches that ended in an error", ["feed", "error"])

MESSAGES_PROCESSED = Counter("sx9_messages_processed_total", "Messages that were written durably", ["role"])
RETRIES = Counter("sx9_batch_retries_total", "Batches repeated because a service did not answer", ["role"])
BATCH_SECONDS = Histogram(
    "sx9_batch_duration_seconds", "Duration of one attempt at a batch", ["role"], buckets=_FAST
)
LAG = Gauge("sx9_consumer_lag_messages", "Messages that the role has not processed yet", ["role"])

OPEN_WINDOW = Gauge("sx9_open_window_examples", "Training examples in the open window", ["model"])
DRIFT = Gauge("sx9_drift_distance", "Latest drift statistic, 0 to 1", ["model", "statistic"])
OPEN_TRIGGER = Gauge("sx9_trigger_unanswered", "1 while a trigger has no verdict yet", ["model"])
WINDOWS_CLOSED = Counter("sx9_windows_closed_total", "Windows closed", ["model", "closed_by"])
TRIGGERS = Counter("sx9_triggers_total", "Decisions to retrain", ["model", "reason"])
DECLINED = Counter("sx9_triggers_declined_total", "Decisions not to retrain", ["model"])
