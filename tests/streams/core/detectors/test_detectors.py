"""One contract for all detectors of drift: silent without drift, loud soon after it, plain data, bounded memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from streams.core.detectors.detector import Detector
from streams.core.detectors.input_drift import MAX_REFERENCE, InputDrift, false_alarm_rate
from streams.core.detectors.label_drift import LabelDrift
from streams.core.detectors.label_window import LabelWindow
from streams.core.detectors.performance_drift import PerformanceDrift

STEPS = 10_000
MEASURE_EVERY = 50
SEEDS = (1, 2, 3)
LABELS = tuple("abcdefghijklmno")


class Case(msgspec.Struct, frozen=True):
    """A detector, its streams and what is promised of it.

    Attributes:
        make: A detector that knows its reference, drawn with a generator.
        draw: The next value, before or after a change.
        threshold: At which it alarms.
        alarms: The most alarms in `STEPS` values without drift.
        delay: The most values from a change to the alarm.
    """

    make: Callable[[random.Random], Any]
    draw: Callable[[random.Random, bool], Any]
    threshold: float
    alarms: int
    delay: int


def labels(rng: random.Random, changed: bool) -> tuple[str, ...]:
    """One label of fifteen becomes half of all."""
    weights = [18.0 if changed and label == "o" else 1.0 + (label in "abc") for label in LABELS]
    return tuple(rng.choices(LABELS, weights))


def projection(rng: random.Random, changed: bool) -> tuple[float, ...]:
    """Numbers far from 0, of different scales; after the change all are one standard deviation higher."""
    return tuple(100.0 * i + (i + 1) * (rng.gauss(0, 1) + changed) for i in range(8))


def losses(rng: random.Random, changed: bool) -> dict[str, float]:
    """Two tasks whose losses can't be compared; after the change they are one standard deviation higher."""
    tactics = {"tactics": rng.expovariate(1) + changed}
    return tactics if rng.random() < 0.5 else tactics | {"severity": 30 + 5 * rng.expovariate(1) + 5 * changed}


def with_labels(rng: random.Random) -> LabelDrift:
    found = LabelDrift(LabelWindow(400))
    for _ in range(2_000):
        for label in labels(rng, changed=False):
            found.reference[label] = found.reference.get(label, 0) + 1
    return found


def with_projections(rng: random.Random) -> InputDrift:
    found = InputDrift(size=200)
    found.learn([projection(rng, False) for _ in range(MAX_REFERENCE)])
    return found


def with_losses(rng: random.Random) -> PerformanceDrift:
    found = PerformanceDrift(delta=0.25)
    found.learn([losses(rng, False) for _ in range(MAX_REFERENCE)])
    return found


CASES = {
    "labels": Case(with_labels, labels, 0.25, 0, 400),
    "inputs": Case(with_projections, projection, 0.25, 1, 200),
    "performance": Case(with_losses, losses, 50.0, 0, 200),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def measurements(
    case: Case, detector: Detector[Any], rng: random.Random, steps: int, *, changed: bool = False
) -> Iterator[float]:
    """Feed values, and measure after every few."""
    for step in range(1, steps + 1):
        detector.update(case.draw(rng, changed))
        if step % MEASURE_EVERY == 0:
            yield detector.statistic


@pytest.mark.parametrize("seed", SEEDS)
def test_without_drift_there_are_no_more_alarms_than_stated(case: Case, seed: int) -> None:
    rng = random.Random(seed)
    detector = case.make(rng)
    full = list(measurements(case, detector, rng, 400))  # a window that is not full is no measurement
    found = list(measurements(case, detector, rng, STEPS))
    assert len(full) == 8
    assert sum(value >= case.threshold for value in found) <= case.alarms


@pytest.mark.parametrize("seed", SEEDS)
def test_a_change_is_seen_within_the_stated_delay(case: Case, seed: int) -> None:
    rng = random.Random(seed)
    detector = case.make(rng)
    assert max(list(measurements(case, detector, rng, 1_000))[8:]) < case.threshold
    assert max(measurements(case, detector, rng, case.delay, changed=True)) >= case.threshold


def test_a_change_before_the_first_value_is_seen_too(case: Case) -> None:
    rng = random.Random(4)
    assert max(measurements(case, case.make(rng), rng, case.delay, changed=True)) >= case.threshold


def test_from_a_snapshot_at_any_place_it_goes_on_the_same(case: Case) -> None:
    rng = random.Random(5)
    detector = case.make(rng)
    values = [case.draw(rng, step > 400) for step in range(600)]
    for at, value in enumerate(values):
        if at in (0, 150, 450):
            stored = msgspec.json.decode(msgspec.json.encode(detector), type=type(detector))
            assert stored == detector
            detector = stored
        detector.update(value)
    unbroken = case.make(random.Random(5))
    for value in values:
        unbroken.update(value)
    assert msgspec.json.encode(unbroken) == msgspec.json.encode(detector)
    assert unbroken.statistic == detector.statistic > 0


def test_its_memory_is_bounded(case: Case) -> None:
    rng = random.Random(6)
    detector = case.make(rng)
    list(measurements(case, detector, rng, 1_000))
    size = len(msgspec.json.encode(detector))
    list(measurements(case, detector, rng, 4_000))
    assert len(msgspec.json.encode(detector)) < 1.1 * size


def test_without_a_reference_nothing_is_drift(case: Case) -> None:
    empty = {"labels": LabelDrift(LabelWindow(400)), "inputs": InputDrift(size=200),
             "performance": PerformanceDrift(delta=0.25)}  # fmt: skip
    detector: Any = next(empty[name] for name, each in CASES.items() if each is case)
    rng = random.Random(7)
    assert set(measurements(case, detector, rng, 500, changed=True)) == {0.0}


def test_the_stated_rate_of_wrong_alarms_of_the_inputs_is_not_exceeded() -> None:
    """At a threshold low enough that there are some: 120 independent windows."""
    threshold, alarms = 0.15, 0
    for seed in range(120):
        rng = random.Random(seed)
        detector = with_projections(rng)
        for _ in range(60):
            detector.update(projection(rng, False))
        alarms += detector.statistic >= threshold
    assert 0.02 < false_alarm_rate(threshold, 60) < 0.2
    assert alarms <= 120 * false_alarm_rate(threshold, 60)


def test_the_scale_and_the_offset_of_projections_do_not_count() -> None:
    def shifted(value: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(1e4 + 7 * x for x in value)

    rng = random.Random(8)
    reference, values = ([projection(rng, i == 1) for _ in range(100)] for i in range(2))
    found = []
    for change in (tuple, shifted):
        detector = InputDrift(size=100)
        detector.learn([change(each) for each in reference])
        for each in values:
            detector.update(change(each))
        found.append(detector.statistic)
    assert found[0] == pytest.approx(found[1], abs=1e-4)
