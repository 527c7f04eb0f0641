"""The gauges of the fold: what its state says about each model, for Prometheus."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from kafka import KafkaConsumer
from prometheus_client import Gauge

from schemas.topics import WINDOWS, partition_of
from schemas.windows import Window
from streams import telemetry
from streams.core.fold import State, holds, retrains_of_day, rule_measures
from transport.kafka import read_range
from transport.metrics import forget
from transport.records import decoded

RULE_GAUGES = (telemetry.RULE_VALUE, telemetry.RULE_LIMIT, telemetry.RULE_TRIPPED)
GAUGES = (
    telemetry.OPEN_WINDOW, telemetry.WINDOW_LIMIT, telemetry.WINDOW_AGE_LIMIT, telemetry.WINDOW_OPENED_AT,
    telemetry.CLOCK, telemetry.PENDING, telemetry.PENDING_SINCE, telemetry.OPEN_TRIGGER, telemetry.LAST_TRIGGER_AT,
    telemetry.COOLDOWN, telemetry.RETRAIN_BUDGET, telemetry.RETRAINS_OF_DAY, telemetry.HELD_BACK,
    telemetry.QUARANTINE_WAITING, telemetry.DRIFT, telemetry.DRIFT_THRESHOLD, *RULE_GAUGES,
)  # fmt: skip
"""All that `FoldGauges.show` sets."""


def closed_windows(reader: KafkaConsumer, model: str) -> Iterator[Window]:
    """The windows of a model on their topic, oldest first."""
    partition = partition_of(model)
    for messages in read_range(reader, WINDOWS.name, partition, 0):
        for _, window in decoded(messages, WINDOWS.record, WINDOWS.name, partition):
            yield window


class FoldGauges:
    """Shows the state of a model.

    Args:
        model: Its name.
        windows: Its windows that were closed earlier, oldest first.
    """

    def __init__(self, model: str, windows: Iterable[Window]) -> None:
        self._model = model
        self._waiting: set[tuple[str, str]] = set()
        self._starts: list[int] = []
        self._opened_ms: list[int] = []
        for window in windows:
            self.closed(window)

    def closed(self, window: Window) -> None:
        """Remember when a closed window was opened: its examples wait since then."""
        if not self._starts or window.start > self._starts[-1]:
            self._starts.append(window.start)
            self._opened_ms.append(window.opened_ms)

    def show(self, state: State) -> None:
        """Set all gauges."""
        policy, model = state.policy, self._model
        telemetry.OPEN_WINDOW.labels(model=model).set(state.window.examples)
        telemetry.WINDOW_LIMIT.labels(model=model).set(policy.window_examples)
        telemetry.WINDOW_AGE_LIMIT.labels(model=model).set(policy.window_age_s)
        _set_time(telemetry.WINDOW_OPENED_AT, model, 0 if state.window.is_empty else state.window.opened_ms)
        _set_time(telemetry.CLOCK, model, state.now_ms)
        telemetry.PENDING.labels(model=model).set(state.pending_examples)
        _set_time(telemetry.PENDING_SINCE, model, self._pending_since_ms(state))
        telemetry.OPEN_TRIGGER.labels(model=model).set(float(state.open_trigger is not None))
        _set_time(telemetry.LAST_TRIGGER_AT, model, state.last_trigger_ms)
        telemetry.COOLDOWN.labels(model=model).set(policy.cooldown_s)
        self._show_drift("jensen_shannon", state.drift, policy.drift_threshold)
        self._show_drift("mmd", state.prequential.input_drift, policy.input_drift_threshold)
        self._show_drift("page_hinkley", state.prequential.performance_drift, policy.performance_drift_threshold)
        self._show_quarantine(state)
        telemetry.RETRAIN_BUDGET.labels(model=model).set(policy.retrains_per_day)
        telemetry.RETRAINS_OF_DAY.labels(model=model).set(retrains_of_day(state))
        for cause, holds_back in holds(state).items():
            telemetry.HELD_BACK.labels(model=model, cause=cause).set(float(holds_back))
        for measure in rule_measures(state):
            for gauge, value in zip(RULE_GAUGES, (measure.value, measure.limit, measure.tripped), strict=True):
                gauge.labels(model=model, rule=measure.rule).set(float(value))

    def _show_quarantine(self, state: State) -> None:
        """What waits; the series of a feed ends when nothing of it waits any more."""
        now = state.quarantine.waiting()
        for feed, reason in self._waiting - now.keys():
            forget(telemetry.QUARANTINE_WAITING, model=self._model, feed=feed, reason=reason)
        for (feed, reason), examples in now.items():
            telemetry.QUARANTINE_WAITING.labels(model=self._model, feed=feed, reason=reason).set(examples)
        self._waiting = set(now)

    def hide(self) -> None:
        """Remove all series of the model: another worker has its journal now."""
        for gauge in GAUGES:
            forget(gauge, model=self._model)

    def _show_drift(self, statistic: str, value: float, threshold: float) -> None:
        """Show a statistic beside its threshold; neither while its rule is turned off."""
        for gauge, number in ((telemetry.DRIFT, value), (telemetry.DRIFT_THRESHOLD, threshold)):
            if threshold > 0:
                gauge.labels(model=self._model, statistic=statistic).set(number)
            else:
                forget(gauge, model=self._model, statistic=statistic)

    def _pending_since_ms(self, state: State) -> int:
        """When the oldest window with pending examples was opened; 0 if no example is pending."""
        if not state.pending_examples:
            return 0
        if not state.pending:
            return state.window.opened_ms
        index = bisect_right(self._starts, state.pending[0].span.start) - 1
        return self._opened_ms[index] if index >= 0 else 0


def _set_time(gauge: Gauge, model: str, time_ms: int) -> None:
    """Set a gauge to a time in seconds; there is no series while the time is 0, which means unknown or none."""
    if time_ms:
        gauge.labels(model=model).set(time_ms / 1000)
    else:
        forget(gauge, model=model)
