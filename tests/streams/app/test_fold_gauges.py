"""The gauges of the fold say what its state says, also in a new process."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs
from prometheus_client import REGISTRY

from schemas.journal import PolicyChange, Promoted, Refused, Tick
from schemas.windows import Trigger, Window
from streams.app.fold_gauges import FoldGauges
from streams.core.fold import initial, step
from tests.streams.core.records import SMALL, training

MODEL = "gnn-threat"
DAY_MS = 86_400_000


def folded(records: list[Any], gauges: FoldGauges) -> list[Any]:
    """Fold records, showing each window; the outputs."""
    state, outputs = initial(MODEL), []
    for offset, record in enumerate(records):
        state, more = step(state, offset, record)
        for output in more:
            if isinstance(output, Window):
                gauges.closed(output)
        outputs += more
    gauges.show(state)
    return outputs


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"model": MODEL, **labels})


@pytest.fixture
def gauges() -> FoldGauges:
    for collector in set(REGISTRY._names_to_collectors.values()):  # series of other tests in this process
        if "model" in getattr(collector, "_labelnames", ()):
            collector.clear()  # type: ignore[attr-defined]
    return FoldGauges(MODEL, [])


def test_the_window_the_rules_and_their_limits_are_shown(gauges: FoldGauges) -> None:
    folded([PolicyChange(SMALL), Tick(DAY_MS), *training(3)], gauges)
    assert value("sx9_open_window_examples") == 3
    assert value("sx9_window_limit_examples") == SMALL.window_examples
    assert value("sx9_open_window_first_example_timestamp_seconds") == DAY_MS / 1000
    assert value("sx9_rule_value", rule="volume") == 3
    assert value("sx9_rule_limit", rule="volume") == SMALL.bootstrap_examples
    assert value("sx9_rule_tripped", rule="volume") == 0
    assert value("sx9_drift_threshold", statistic="jensen_shannon") == SMALL.drift_threshold


def test_the_oldest_pending_example_waits_since_its_window_opened_until_it_is_learnt(gauges: FoldGauges) -> None:
    examples = training(40)
    before = [PolicyChange(SMALL), Tick(DAY_MS), *examples[:20], Tick(3 * DAY_MS), *examples[20:]]
    outputs = folded(before, gauges)
    windows = [output for output in outputs if isinstance(output, Window)]
    assert len(windows) > 2
    assert value("sx9_pending_since_timestamp_seconds") == DAY_MS / 1000

    other = FoldGauges(MODEL, windows)  # a new process, which reads the windows from their topic
    value_before = {name: value(name) for name in ("sx9_pending_examples", "sx9_pending_since_timestamp_seconds")}
    folded(before, other)
    assert {name: value(name) for name in value_before} == value_before

    trigger = next(output for output in outputs if isinstance(output, Trigger))
    promoted = Promoted(trigger=trigger.id, version=trigger.version, time_ms=0)
    folded([*before, promoted], gauges)
    assert value("sx9_pending_since_timestamp_seconds") == 3 * DAY_MS / 1000
    assert value("sx9_trigger_unanswered") == 0


def test_what_holds_a_retrain_back_is_shown_as_long_as_it_does(gauges: FoldGauges) -> None:
    policy = structs.replace(SMALL, retrains_per_day=1, breaker_refusals=1, breaker_pause_s=3_600.0)
    before = [PolicyChange(policy), Tick(DAY_MS), *training(40)]
    outputs = folded(before, gauges)

    def held() -> list[float | None]:
        return [value("sx9_retrain_held_back", cause=cause) for cause in ("answer", "breaker", "budget")]

    assert held() == [1, 0, 1]
    assert (value("sx9_retrains_of_day"), value("sx9_retrains_per_day_limit")) == (1, 1)
    trigger = next(output for output in outputs if isinstance(output, Trigger))
    refused = Refused(trigger=trigger.id, version=trigger.version, reason="worse", time_ms=0)
    folded([*before, refused], gauges)
    assert held() == [0, 1, 1]
    folded([*before, refused, Tick(DAY_MS + 7_200_000)], gauges)
    assert held() == [0, 0, 1]


def test_the_series_of_a_journal_that_another_worker_has_are_gone(gauges: FoldGauges) -> None:
    folded([PolicyChange(SMALL), Tick(DAY_MS), *training(3)], gauges)
    shown = {
        metric.name for metric in REGISTRY.collect() for one in metric.samples if one.labels.get("model") == MODEL
    }
    assert {"sx9_open_window_examples", "sx9_rule_value", "sx9_drift_distance"} <= shown
    gauges.hide()
    assert not [one for metric in REGISTRY.collect() for one in metric.samples if one.labels.get("model") == MODEL]


def test_a_time_that_is_unknown_has_no_series(gauges: FoldGauges) -> None:
    folded([PolicyChange(SMALL), Tick(DAY_MS), *training(3)], gauges)
    folded([PolicyChange(SMALL)], gauges)
    for name in ("journal_clock", "pending_since", "last_trigger", "open_window_first_example"):
        assert value(f"sx9_{name}_timestamp_seconds") is None
