"""The gauges of a run in progress."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from trainers.core.progress import Cancelled, RunProgress, no_progress
from trainers.runs.run_gauges import shown

MODEL = "distilbert-mitre"


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"sx9_training_{name}", {"model": MODEL, **labels})


def test_steps_loss_and_time_left_are_shown_during_a_run_and_gone_after_it() -> None:
    times = iter([100.0, 100.0, 120.0])
    with shown(MODEL, no_progress, lambda: next(times)) as on_progress:
        on_progress(RunProgress("training", 0, 10, epoch=1, loss=0.75))
        assert value("left_seconds", phase="training") is None
        on_progress(RunProgress("training", 4, 10, epoch=1, loss=0.5))
        assert value("in_progress") == 1
        assert value("steps_done", phase="training") == 4
        assert value("steps", phase="training") == 10
        assert value("loss") == 0.5
        assert value("left_seconds", phase="training") == 20.0 / 4 * 6
    assert value("in_progress") == 0
    assert value("loss") is None
    for name in ("steps_done", "steps", "left_seconds"):
        assert value(name, phase="training") is None


def test_a_cancelled_run_is_not_in_progress() -> None:
    def cancel(_: RunProgress) -> None:
        raise Cancelled

    with pytest.raises(Cancelled), shown(MODEL, cancel) as on_progress:
        on_progress(RunProgress("training", 1, 10))
    assert value("in_progress") == 0
