"""The dashboards: overview, retraining, feeds, streams, models, serving."""

from __future__ import annotations

from collections.abc import Sequence

from tools.monitoring.panels import DATASOURCE, Json, bar_gauge, laid_out, query, stat, table, time_series
from tools.monitoring.promql import grown

OF_MODEL = '{model=~"$model"}'
OF_TASK = "{{model}} {{task}} {{metric}}"
OF_FEED = '{feed=~"$feed"}'


def dashboards() -> dict[str, Json]:
    """Name -> dashboard."""
    return {
        "overview": _dashboard("overview", "Overview", _overview(), ()),
        "retraining": _dashboard("retraining", "Retraining", _retraining(), ("model",)),
        "feeds": _dashboard("feeds", "Feeds", _feeds(), ("feed",)),
        "streams": _dashboard("streams", "Streams", _streams(), ()),
        "models": _dashboard("models", "Models", _models(), ("model",)),
        "serving": _dashboard("serving", "Serving", _serving(), ("model",)),
    }


def _overview() -> list[Json]:
    return [
        stat("Processes that answer", "short", query('sum(up{job="sx9"})', "up"),
             query('count(up{job="sx9"})', "all"), help_text="Below all: see the alert ProcessDown."),
        table("Alerts", "short", 'ALERTS{alertstate="firing"}',
              columns=("alertname", "severity", "model", "feed", "role"),
              help_text="What fires now. Each alert has a section in the runbook."),
        stat("Champions", "short", query("sx9_model_version_info", "{{model}} {{version}}"),
             help_text="The version of each model that serves."),
        stat("Feeds: since the last complete fetch", "s",
             query("time() - sx9_fetch_last_success_timestamp_seconds", "{{feed}}"),
             help_text="Three fetch intervals and more: the alert FeedSilent."),
        time_series("Events published", "ops",
                    query("sum by (feed) (rate(sx9_events_published_total[$__rate_interval]))", "{{feed}}"),
                    help_text="Events of each feed that the broker acknowledged, per second."),
        time_series("Lag of the roles", "short", query("sx9:consumer_lag_messages:sum", "{{role}}"),
                    help_text="Messages that a role has not processed yet."),
        bar_gauge("Open windows", "percentunit", query("sx9:window_fill:ratio", "{{model}}"), full="green",
                  help_text="Full windows close. How near a retrain is, says the dashboard Retraining."),
        stat("Since the latest retrain", "s",
             query("time() - sx9_last_trigger_timestamp_seconds", "{{model}}"),
             help_text="Time since the latest decision to retrain."),
        bar_gauge("Disks", "percentunit", query("1 - sx9:disk_free:ratio", "{{process}} {{folder}}"),
                  help_text="Used part of the disks that have the state and the models."),
    ]  # fmt: skip


def _retraining() -> list[Json]:
    return [
        bar_gauge("Open window", "percentunit", query(f"sx9:window_fill:ratio{OF_MODEL}", "{{model}}"),
                  full="green",
                  help_text="Training examples in the open window, against the number at which it closes."),
        bar_gauge("Rules against their limits", "percentunit",
                  query(f"sx9:rule:ratio{OF_MODEL}", "{{model}} {{rule}}"),
                  help_text="A rule at 100 % asks for a retrain: volume, three kinds of drift, taxonomy, ..."),
        time_series("Drift against its threshold", "percentunit",
                    query(f"sx9_drift_distance{OF_MODEL} / sx9_drift_threshold", "{{model}} {{statistic}}"),
                    limit=1,
                    help_text="Recent labels (jensen_shannon), inputs (mmd) and losses (page_hinkley) against the"
                              " champion's."),
        time_series("Drift of labels and inputs", "percentunit",
                    query('sx9_drift_distance{model=~"$model", statistic!="page_hinkley"}',
                          "{{model}} {{statistic}}"),
                    help_text="0: the same as the champion's, 1: nothing in common."),
        time_series("Corrections and their limit", "short",
                    query('sx9_rule_value{model=~"$model", rule="corrections"}', "{{model}}"),
                    query('sx9_rule_limit{model=~"$model", rule="corrections"} > 0', "{{model}} limit"),
                    help_text="Examples that the champion learnt and that were taken back or relabelled since."),
        time_series("Retrains of the last day, and the budget", "short",
                    query(f"sx9_retrains_of_day{OF_MODEL}", "{{model}}"),
                    query(f"sx9_retrains_per_day_limit{OF_MODEL} > 0", "{{model}} budget"),
                    help_text="At the budget only a person starts a run."),
        table("What holds a retrain back", "short", f"sx9_retrain_held_back{OF_MODEL} == 1",
              columns=("model", "cause"),
              help_text="A trigger without an answer, the circuit breaker, or the budget of the day."),
        time_series("Pending examples", "short", query(f"sx9_pending_examples{OF_MODEL}", "{{model}}"),
                    help_text="Examples that came and that no champion was trained on."),
        time_series("Oldest pending example", "s", query(f"sx9:pending_age_seconds:max{OF_MODEL}", "{{model}}"),
                    help_text="How long the oldest example waits to be learnt."),
        stat("Since the latest retrain", "s",
             query(f"time() - sx9_last_trigger_timestamp_seconds{OF_MODEL}", "{{model}}"),
             query(f"time() - sx9_last_answer_timestamp_seconds{OF_MODEL}", "{{model}} {{outcome}}"),
             help_text="Time since the latest trigger, and since the latest promotion and refusal."),
        time_series("Why it retrained", "short",
                    query(_increase("sx9_triggers_total", "model, reason", OF_MODEL),
                          "{{model}} {{reason}}"),
                    help_text="Triggers by reason."),
        time_series("Better than before?", "percentunit",
                    query('sx9:evaluation_gain:delta{model=~"$model", split="holdout"}', OF_TASK),
                    help_text="Scores of the latest version less those of its parent.", limit=0),
        table("What the gate refused and why", "percentunit", f"sx9_gate_check_shortfall{OF_MODEL}",
              columns=("model", "check"),
              help_text="Checks that the latest version failed, and by how much."),
        stat("Refusals in a row", "short", query(f"sx9_refusals_in_a_row{OF_MODEL}", "{{model}}"), red_from=3,
             help_text="Since the latest promotion."),
        bar_gauge("Run in progress", "percentunit",
                  query(f"sx9:run_progress:ratio{OF_MODEL}", "{{model}} {{phase}}"), full="green",
                  help_text="Steps of each phase that are done. Empty: no run."),
        time_series("Loss, and time left", "short", query(f"sx9_training_loss{OF_MODEL}", "{{model}} loss"),
                    query(f"sx9_training_left_seconds{OF_MODEL}", "{{model}} {{phase}}, seconds left"),
                    help_text="Of the run in progress."),
    ]  # fmt: skip


def _feeds() -> list[Json]:
    return [
        stat("Since the last complete fetch", "s",
             query(f"time() - sx9_fetch_last_success_timestamp_seconds{OF_FEED}", "{{feed}}"),
             help_text="Three fetch intervals and more: the alert FeedSilent."),
        time_series("Events by kind of change", "short",
                    query(_increase("sx9_events_published_total", "feed, kind", OF_FEED),
                          "{{feed}} {{kind}}"),
                    help_text="What each fetch published."),
        time_series("Failures", "short",
                    query(_increase("sx9_fetch_failures_total", "feed, error", OF_FEED),
                          "{{feed}} {{error}}"),
                    help_text="Fetches that ended in an error."),
        time_series("Dead letters", "short",
                    query(_increase("sx9_events_rejected_total", "feed, reason", OF_FEED),
                          "{{feed}} {{reason}}"),
                    help_text="Items that can't be used, by reason."),
        table("Dead letters by reason", "short", f"sum by (feed, reason) (sx9_events_rejected_total{OF_FEED})",
              columns=("feed", "reason"), help_text="Since each process started."),
        time_series("In quarantine", "short",
                    query(f"sum by (model, feed, reason) (sx9_quarantine_waiting{OF_FEED})",
                          "{{model}} {{feed}} {{reason}}"),
                    help_text="Examples that are set aside until a person decides: `sx9 quarantine list`."),
        time_series("Held, released and purged", "short",
                    query(_increase("sx9_quarantine_held_total", "feed", OF_FEED), "{{feed}} held"),
                    query(_increase("sx9_quarantine_released_total", "feed", OF_FEED), "{{feed}} released"),
                    query(_increase("sx9_quarantine_purged_total", "feed", OF_FEED), "{{feed}} purged"),
                    help_text="What the rules set aside, and what people decided about it."),
        time_series("Duration of a fetch", "s",
                    query(f"sum by (feed) (rate(sx9_fetch_duration_seconds_sum{OF_FEED}[$__rate_interval]))"
                          f" / sum by (feed) (rate(sx9_fetch_duration_seconds_count{OF_FEED}[$__rate_interval]))",
                          "{{feed}}"),
                    help_text="Mean duration of a fetch."),
    ]  # fmt: skip


def _streams() -> list[Json]:
    return [
        time_series("Messages processed", "ops",
                    query("sum by (role) (rate(sx9_messages_processed_total[$__rate_interval]))", "{{role}}"),
                    help_text="Messages that were written durably, per second."),
        time_series("Lag by partition", "short",
                    query("max by (role, topic, partition) (sx9_consumer_lag_messages)",
                          "{{role}} {{topic}}/{{partition}}"),
                    help_text="Messages not processed yet, also of partitions that no worker reads."),
        time_series("Duration of a batch, 95 %", "s",
                    query("histogram_quantile(0.95, sum by (role, le)"
                          " (rate(sx9_batch_duration_seconds_bucket[$__rate_interval])))", "{{role}}"),
                    help_text="19 of 20 batches take less."),
        time_series("Batches repeated", "short",
                    query(_increase("sx9_batch_retries_total", "role"), "{{role}}"),
                    help_text="Kafka or Neo4j did not answer."),
        time_series("Records passed over", "short",
                    query(_increase("sx9_records_passed_over_total", "topic, reason"),
                          "{{topic}} {{reason}}"),
                    help_text="Messages on our topics that hold no record of ours."),
        stat("Retention of the topics", "s", query("min by (topic) (sx9_topic_retention_seconds)", "{{topic}}"),
             help_text="Infinite: every version can be rebuilt for ever."),
        stat("Versions can be rebuilt for", "s",
             query("min by (model) (sx9_versions_rebuildable_until_timestamp_seconds) - time()", "{{model}}"),
             help_text="The soonest of each model, by the retention of its journal and the archive."),
        stat("Since the latest complete archive", "s",
             query("time() - (sx9_archive_last_success_timestamp_seconds > 0)", "{{process}}"),
             help_text="Three intervals and more: the alert ArchiveBehind. Empty: nothing is archived."),
        time_series("Time since the latest tick", "s",
                    query("time() - sx9_journal_clock_timestamp_seconds", "{{model}}"),
                    help_text="Without ticks no window ages and no cool-down ends."),
        time_series("Memory of the processes", "bytes",
                    query('process_resident_memory_bytes{job="sx9"}', "{{process}}"),
                    help_text="Resident memory."),
        time_series("Processor time of the processes", "percentunit",
                    query('rate(process_cpu_seconds_total{job="sx9"}[$__rate_interval])', "{{process}}"),
                    help_text="1 is one core."),
    ]  # fmt: skip


def _models() -> list[Json]:
    return [
        stat("Version that serves", "short", query(f"sx9_model_version_info{OF_MODEL}", "{{model}} {{version}}"),
             help_text="The champion."),
        stat("Age of the champion", "s", query(f"sx9:champion_age_seconds:max{OF_MODEL}", "{{model}}"),
             help_text="Time since its promotion."),
        stat("From event to serving", "s", query(f"sx9_event_to_serving_seconds{OF_MODEL}", "{{model}}"),
             help_text="From its newest event to its promotion."),
        time_series("Scores on all holdout examples", "percentunit",
                    query('sx9_evaluation_score{model=~"$model", split="holdout"}', OF_TASK),
                    help_text="Of the latest version, whether it serves or not."),
        time_series("Scores on old examples", "percentunit",
                    query('sx9_evaluation_score{model=~"$model", split="old"}', OF_TASK),
                    query('sx9_parent_evaluation_score{model=~"$model", split="old"}',
                          f"{OF_TASK}, parent"),
                    help_text="Below the parent: it forgets."),
        time_series("Scores of the champion on what was new", "percentunit",
                    query('sx9_parent_evaluation_score{model=~"$model", split="prequential"}',
                          OF_TASK),
                    help_text="Before a version was trained on it (prequential)."),
        time_series("Neighbours kept", "percentunit",
                    query(f"sx9_embedding_neighbours_kept_ratio{OF_MODEL}", "{{model}}"),
                    query(f"sx9_embedding_distance{OF_MODEL}", "{{model}} distance"),
                    help_text="Of the ten nearest nodes of each node, from the parent to the latest version."),
        time_series("Examples scored by the champion", "short",
                    query(_increase("sx9_examples_scored_total", "model", OF_MODEL), "{{model}}"),
                    query(_increase("sx9_scoring_failures_total", "model, error", OF_MODEL),
                          "{{model}} {{error}}"),
                    help_text="For the drift of inputs and performance."),
        time_series("Answers", "short",
                    query(_increase("sx9_triggers_answered_total", "model, outcome", OF_MODEL),
                          "{{model}} {{outcome}}"),
                    help_text="Promotions and refusals."),
        time_series("Failed runs", "short",
                    query(_increase("sx9_training_failures_total", "model, error", OF_MODEL),
                          "{{model}} {{error}}"),
                    query(f"sx9_training_faults{OF_MODEL}", "{{model}} faults in a row"),
                    help_text="Faults of the machine are repeated and are no answers."),
        time_series("Duration of a run", "s",
                    query(f"sum by (model) (rate(sx9_training_duration_seconds_sum{OF_MODEL}[$__range]))"
                          f" / sum by (model) (rate(sx9_training_duration_seconds_count{OF_MODEL}[$__range]))",
                          "{{model}}"),
                    help_text="Mean over the time range."),
    ]  # fmt: skip


def _serving() -> list[Json]:
    return [
        stat("Version that answers", "short", query(f"sx9_serving_version_info{OF_MODEL}", "{{model}} {{version}}"),
             help_text="Of each server."),
        stat("Behind", "short", query(f"sx9_serving_behind{OF_MODEL}", "{{model}}"), red_from=1,
             help_text="1 while another version should serve than the one that answers: the alert ServerBehind."),
        time_series("Requests", "ops",
                    query("sum by (route, status) (rate(sx9_serving_requests_total[$__rate_interval]))",
                          "{{route}} {{status}}"),
                    help_text="Answered requests per second."),
        time_series("Errors of the server", "percentunit",
                    query('sum by (process) (rate(sx9_serving_requests_total{status=~"5.."}[$__rate_interval]))'
                          " / sum by (process) (rate(sx9_serving_requests_total[$__rate_interval]))",
                          "{{process}}"),
                    help_text="Share of the answers with a status of 500 or more.", limit=0.05),
        time_series("Duration of a request, 95 %", "s",
                    query("histogram_quantile(0.95, sum by (route, le)"
                          " (rate(sx9_serving_request_duration_seconds_bucket[$__rate_interval])))", "{{route}}"),
                    help_text="19 of 20 answers take less."),
        time_series("Where an answer waits, 95 %", "s",
                    query("histogram_quantile(0.95, sum by (model, layer, le)"
                          f" (rate(sx9_serving_layer_duration_seconds_bucket{OF_MODEL}[$__rate_interval])))",
                          "{{model}} {{layer}}"),
                    help_text="In the queue, and in the model."),
        time_series("Queries that wait", "short", query(f"sx9_serving_waiting_queries{OF_MODEL}", "{{model}}"),
                    help_text="For a batch."),
        time_series("Queries of a batch", "short",
                    query(f"sum by (model) (rate(sx9_serving_batch_size_sum{OF_MODEL}[$__rate_interval]))"
                          f" / sum by (model) (rate(sx9_serving_batch_size_count{OF_MODEL}[$__rate_interval]))",
                          "{{model}}"),
                    help_text="Mean."),
        time_series("Swaps", "short",
                    query(_increase("sx9_serving_swaps_total", "model, outcome", OF_MODEL),
                          "{{model}} {{outcome}}"),
                    help_text="Changes of the version that answers."),
        time_series("Agreement of the candidate", "percentunit",
                    query("sum by (model) (increase(sx9_serving_shadow_answers_total"
                          '{model=~"$model", agreed="yes"}[$__range]))'
                          f" / sum by (model) (increase(sx9_serving_shadow_answers_total{OF_MODEL}[$__range]))",
                          "{{model}}"),
                    help_text="Share of answers that are the champion's, where a candidate answers unseen."),
        time_series("Failures to follow", "short",
                    query("increase(sx9_serving_following_failures_total[$__rate_interval])", "{{process}}"),
                    help_text="Which version should serve could not be read."),
    ]  # fmt: skip


def _increase(counter: str, by: str, selector: str = "") -> str:
    return grown(f"{counter}{selector}", "$__rate_interval", by)


def _dashboard(name: str, title: str, panels: Sequence[Json], variables: Sequence[str]) -> Json:
    return {
        "uid": f"sx9-{name}",
        "title": f"sx9 {title}",
        "tags": ["sx9"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": [*map(_variable, variables), _RUNBOOK]},
        "annotations": {"list": [*_ANNOTATIONS] if "model" in variables else []},
        "links": [_LINK_DASHBOARDS, _LINK_RUNBOOK],
        "panels": laid_out(panels),
    }


_SERIES_WITH = {"model": "sx9_open_window_examples", "feed": "sx9_fetch_interval_seconds"}
"""Variable -> a series that has all its values."""


def _variable(name: str) -> Json:
    """A list of the values of a label, several or all of which can be chosen."""
    return {
        "name": name,
        "type": "query",
        "datasource": dict(DATASOURCE),
        "query": {"query": f"label_values({_SERIES_WITH[name]}, {name})", "refId": "A"},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
    }


def _annotation(name: str, color: str, series: str) -> Json:
    """Marks at the times that are the values of a series, in seconds."""
    return {
        "name": name,
        "datasource": dict(DATASOURCE),
        "enable": True,
        "iconColor": color,
        "expr": f"{series} * 1000",
        "useValueForTime": True,
        "titleFormat": f"{name} of {{{{model}}}}",
        "step": "60s",
    }


_ANNOTATIONS = (
    _annotation("Retrain", "blue", f"sx9_last_trigger_timestamp_seconds{OF_MODEL}"),
    _annotation(
        "Promotion", "green", 'sx9_last_answer_timestamp_seconds{model=~"$model", outcome=~"promoted|rolled-back"}'
    ),
    _annotation("Refusal", "red", 'sx9_last_answer_timestamp_seconds{model=~"$model", outcome="refused"}'),
)
_RUNBOOK_URL = "/public/sx9/operations.md"
"""Where docker-compose.yml puts the runbook. The variable can be set to the address of another copy."""
_RUNBOOK = {
    "name": "runbook",
    "type": "constant",
    "hide": 2,
    "query": _RUNBOOK_URL,
    "current": {"text": _RUNBOOK_URL, "value": _RUNBOOK_URL},
}
_LINK_DASHBOARDS = {
    "type": "dashboards",
    "title": "sx9",
    "tags": ["sx9"],
    "asDropdown": False,
    "includeVars": True,
    "keepTime": True,
}
_LINK_RUNBOOK = {"type": "link", "title": "Runbook", "url": "${runbook}", "icon": "doc", "targetBlank": True}
