"""The gauges say until when the versions of a model can be rebuilt, and how many can't be any more."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import RetryLater
from schemas.versions import Manifest
from schemas.windows import Span
from trainers import telemetry
from trainers.runs.rebuildable import RebuildableGauges
from trainers.store import manifest as manifests
from trainers.store.registry import Registry
from transport.archive.horizon import Horizon

MODEL = "a-model"


@pytest.fixture
def shown(tmp_path: Path) -> Callable[[Callable[[], Horizon]], tuple[float, float]]:
    """What the gauges say of two versions, which need 10 and 20 records of the journal."""
    registry = Registry(tmp_path)
    for number, end in ((1, 10), (2, 20)):
        folder = registry.folder(MODEL, f"v000{number}")
        folder.mkdir(parents=True)
        fields = {"trigger": f"{MODEL}@{end - 1}", "reason": "volume", "spans": (Span(0, end - 3, 1, "d"),)}
        manifests.write(folder, Manifest(model=MODEL, version=f"v000{number}", **fields))  # type: ignore[arg-type]

    def show(horizon: Callable[[], Horizon]) -> tuple[float, float]:
        RebuildableGauges(MODEL, registry, horizon).refresh()
        gauges = (telemetry.REBUILDABLE_UNTIL, telemetry.NOT_REBUILDABLE)
        until, lost = (gauge.labels(model=MODEL)._value.get() for gauge in gauges)
        return until, lost

    return show


def test_the_soonest_of_the_versions_that_can_be_rebuilt_is_shown_and_the_others_are_counted(
    shown: Callable[[Callable[[], Horizon]], tuple[float, float]],
) -> None:
    assert shown(lambda: Horizon(0, math.inf)) == (math.inf, 0)
    assert shown(lambda: Horizon(0, 5_000.0)) == (5.0, 0)
    assert shown(lambda: Horizon(10, 5_000.0)) == (5.0, 0)
    assert shown(lambda: Horizon(20, 5_000.0)) == (math.inf, 0)
    assert shown(lambda: Horizon(10, 0.0)) == (math.inf, 1)
    assert shown(lambda: Horizon(0, 0.0)) == (math.inf, 2)
    assert math.isnan(shown(lambda: Horizon(10, math.nan))[0])


def test_what_is_not_known_is_no_number(
    shown: Callable[[Callable[[], Horizon]], tuple[float, float]], caplog: pytest.LogCaptureFixture
) -> None:
    def away() -> Horizon:
        raise RetryLater("the store does not answer")

    assert math.isnan(shown(away)[0])
    assert "the store does not answer" in caplog.text
