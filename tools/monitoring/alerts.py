"""The alert rules. Each has a section in `docs/operations.md`: what it means, what to look at, what to type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tools.monitoring.promql import grown

HIGHER_IS_BETTER = "micro_f1|macro_f1|recall_at_20|ndcg_at_20|token_accuracy|bits_saved"
"""The metrics that the gate compares; others are only shown."""
QUICK_ROUTES = "/v1/(classify|similar|techniques/predict)"
"""The routes without generated text and without a stream of events."""
RUNBOOK = "docs/operations.md"

Severity = Literal["warning", "critical"]


@dataclass(frozen=True)
class Alert:
    """One alert rule.

    Attributes:
        name: Also the heading of its section in the runbook.
        expr: PromQL; the alert is pending for each series that it returns.
        hold: How long it must return the series before the alert fires (`for`).
        severity: `critical`: events or models stand still. `warning`: look at it this week.
        summary: One sentence; `{{ $labels.model }}` and the like are replaced.
    """

    name: str
    expr: str
    hold: str
    severity: Severity
    summary: str


ALERTS: tuple[Alert, ...] = (
    Alert(
        "FeedSilent",
        "time() - sx9_fetch_last_success_timestamp_seconds > 3 * sx9_fetch_interval_seconds",
        "5m",
        "warning",
        "{{ $labels.feed }} was last fetched completely {{ $value | humanizeDuration }} ago.",
    ),
    Alert(
        "FeedFailing",
        f"{grown('sx9_fetch_failures_total', '6h', 'feed')} >= 2",
        "0m",
        "warning",
        "Fetching {{ $labels.feed }} failed {{ $value | humanize }} times in 6 hours.",
    ),
    Alert(
        "DeadLettersRising",
        f"{grown('sx9_events_rejected_total', '1h', 'feed, reason')} > 0",
        "0m",
        "warning",
        "{{ $labels.feed }} rejected {{ $value | humanize }} items in an hour: {{ $labels.reason }}.",
    ),
    Alert(
        "QuarantineWaiting",
        "sum by (model, feed, reason) (sx9_quarantine_waiting) > 0",
        "5m",
        "warning",
        "{{ $value | humanize }} examples of {{ $labels.feed }} wait in quarantine of {{ $labels.model }}: "
        "{{ $labels.reason }}.",
    ),
    Alert(
        "RoleLagging",
        "sx9:consumer_lag_messages:sum > 1000",
        "15m",
        "warning",
        "{{ $labels.role }} is {{ $value | humanize }} messages behind.",
    ),
    Alert(
        "ProcessDown",
        'up{job="sx9"} == 0',
        "2m",
        "critical",
        "{{ $labels.process }} does not answer at {{ $labels.instance }}.",
    ),
    Alert(
        "BrokerOrGraphAway",
        "sum by (role) (increase(sx9_batch_retries_total[10m])) > 3",
        "5m",
        "critical",
        "{{ $labels.role }} repeats its batch because Kafka or Neo4j does not answer.",
    ),
    Alert(
        "JournalClockStopped",
        "time() - sx9_journal_clock_timestamp_seconds > 900",
        "5m",
        "critical",
        "The journal of {{ $labels.model }} has had no tick for {{ $value | humanizeDuration }}.",
    ),
    Alert(
        "WindowStuck",
        "sx9_journal_clock_timestamp_seconds - sx9_open_window_first_example_timestamp_seconds"
        " > 1.1 * sx9_window_limit_seconds",
        "15m",
        "warning",
        "The open window of {{ $labels.model }} is {{ $value | humanizeDuration }} old and was not closed.",
    ),
    Alert(
        "DriftWithoutRetrain",
        "sx9_drift_distance >= sx9_drift_threshold and on (model)"
        " time() - sx9_last_trigger_timestamp_seconds > 86400 + sx9_trigger_cooldown_seconds",
        "1h",
        "warning",
        'The drift of {{ $labels.model }} ({{ $labels.statistic }}) is {{ printf "%.2f" $value }}, and there was no'
        " retrain for a day.",
    ),
    Alert(
        "CorrectionsWithoutRetrain",
        'sx9_rule_value{rule="corrections"} >= (sx9_rule_limit{rule="corrections"} > 0) and on (model)'
        " time() - sx9_last_trigger_timestamp_seconds > 86400 + sx9_trigger_cooldown_seconds",
        "1h",
        "warning",
        "{{ $value | humanize }} examples that {{ $labels.model }} learnt were corrected; no retrain for a day.",
    ),
    Alert(
        "BreakerOpen",
        'max by (model) (sx9_retrain_held_back{cause="breaker"}) == 1',
        "10m",
        "warning",
        "The circuit breaker of {{ $labels.model }} is open: no rule starts a run.",
    ),
    Alert(
        "BudgetUsedUp",
        'max by (model) (sx9_retrain_held_back{cause="budget"}) == 1'
        " and on (model) max by (model) (sx9_rule_tripped) == 1",
        "6h",
        "warning",
        "A rule of {{ $labels.model }} asks for a retrain, and the budget of the day is used up.",
    ),
    Alert(
        "TriggerUnanswered",
        "sx9_trigger_unanswered == 1 and time() - sx9_last_trigger_timestamp_seconds > 3600"
        " unless on (model) sx9_training_in_progress == 1",
        "10m",
        "critical",
        "The latest trigger of {{ $labels.model }} has no answer, and no run is in progress.",
    ),
    Alert(
        "GateRefusing",
        "max by (model) (sx9_refusals_in_a_row) >= 3",
        "0m",
        "warning",
        "{{ $value | humanize }} versions of {{ $labels.model }} in a row were refused.",
    ),
    Alert(
        "TrainerFailing",
        f"max by (model) (sx9_training_faults) >= 2 or {grown('sx9_training_failures_total', '6h', 'model')} >= 3",
        "0m",
        "critical",
        "Runs of {{ $labels.model }} fail: {{ $value | humanize }} times.",
    ),
    Alert(
        "ChampionTooOld",
        "max by (model) (time() - sx9_champion_promotion_timestamp_seconds)"
        ' > on (model) 2 * max by (model) (sx9_rule_limit{rule="staleness"})',
        "1h",
        "warning",
        "The version of {{ $labels.model }} that serves is {{ $value | humanizeDuration }} old.",
    ),
    Alert(
        "Forgetting",
        f'sx9:evaluation_gain:delta{{split="old", metric=~"{HIGHER_IS_BETTER}"}}'
        " < -0.05 and on (model) sx9_gate_checks_failed == 0",
        "0m",
        "warning",
        '{{ $labels.model }} forgets: {{ $labels.task }} {{ $labels.metric }} {{ printf "%+.2f" $value }}.',
    ),
    Alert(
        "VersionsNotRebuildable",
        "min by (topic) (sx9_topic_retention_seconds) < Inf"
        " unless on () time() - max(sx9_archive_last_success_timestamp_seconds) < 86400",
        "0m",
        "warning",
        "Kafka deletes the records of {{ $labels.topic }} after {{ $value | humanizeDuration }}.",
    ),
    Alert(
        "ArchiveBehind",
        "time() - sx9_archive_last_success_timestamp_seconds > 3 * (sx9_archive_interval_seconds > 0)",
        "30m",
        "warning",
        "Not all topics were archived within three intervals.",
    ),
    Alert(
        "ServerBehind",
        "sx9_serving_behind == 1",
        "5m",
        "critical",
        "The server answers with an older version of {{ $labels.model }} than the one that should serve.",
    ),
    Alert(
        "ServerFailing",
        'sum by (process) (rate(sx9_serving_requests_total{status=~"5.."}[10m]))'
        " / sum by (process) (rate(sx9_serving_requests_total[10m])) > 0.05",
        "5m",
        "critical",
        "{{ $value | humanizePercentage }} of the answers of {{ $labels.process }} are errors of its own.",
    ),
    Alert(
        "ServerSlow",
        "histogram_quantile(0.95, sum by (route, le)"
        f' (rate(sx9_serving_request_duration_seconds_bucket{{route=~"{QUICK_ROUTES}"}}[10m]))) > 1',
        "10m",
        "warning",
        "One of 20 answers of {{ $labels.route }} takes more than {{ $value | humanizeDuration }}.",
    ),
    Alert(
        "VersionSoonNotRebuildable",
        "min by (model) (sx9_versions_rebuildable_until_timestamp_seconds) - time() < 1209600",
        "30m",
        "warning",
        "In {{ $value | humanizeDuration }} a version of {{ $labels.model }} can't be rebuilt any more.",
    ),
    Alert(
        "DiskFilling",
        "sx9:disk_free:ratio < 0.05 or predict_linear(sx9_disk_free_bytes[6h], 86400) < 0",
        "15m",
        "critical",
        "The disk of the folder {{ $labels.folder }} is nearly full, or will be within a day.",
    ),
)
