"""The gauges of a run in progress: phase, steps, loss and the time left. They are gone when it has ended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from trainers import telemetry
from trainers.core.progress import ProgressCallback, RunProgress
from transport.metrics import forget


@contextlib.contextmanager
def shown(
    model: str, on_progress: ProgressCallback, clock: Callable[[], float] = time.monotonic
) -> Iterator[ProgressCallback]:
    """Show the progress of a run while the block lasts.

    Args:
        model: The model that is trained.
        on_progress: What else is done with the progress; it may raise `Cancelled`.
        clock: Seconds, for the time left: that of the steps of the phase so far, for each step that is left.

    Yields:
        The callback for the run.
    """
    began: dict[str, tuple[float, int]] = {}

    def show(progress: RunProgress) -> None:
        on_progress(progress)
        began_s, first_step = began.setdefault(progress.phase, (clock(), progress.step))
        telemetry.RUN_STEPS_DONE.labels(model=model, phase=progress.phase).set(progress.step)
        telemetry.RUN_STEPS.labels(model=model, phase=progress.phase).set(progress.steps)
        if progress.epoch:
            telemetry.RUN_LOSS.labels(model=model).set(progress.loss)
        if (steps := progress.step - first_step) > 0:
            left_s = (clock() - began_s) / steps * (progress.steps - progress.step)
            telemetry.RUN_LEFT.labels(model=model, phase=progress.phase).set(left_s)

    telemetry.RUN_IN_PROGRESS.labels(model=model).set(1)
    try:
        yield show
    finally:
        telemetry.RUN_IN_PROGRESS.labels(model=model).set(0)
        for gauge in (telemetry.RUN_STEPS_DONE, telemetry.RUN_STEPS, telemetry.RUN_LOSS, telemetry.RUN_LEFT):
            forget(gauge, model=model)
