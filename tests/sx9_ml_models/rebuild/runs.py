"""Runs that are interrupted."""

from __future__ import annotations

from trainers.core.progress import ProgressCallback, RunProgress
from trainers.runs.execute_run import execute
from trainers.runs.run_process import Run, RunRequest


def dying(*, run: int, step: int) -> Run:
    """Runs in this process, of which one, counted from 1, is interrupted at a step."""
    started = 0

    def execute_or_die(request: RunRequest, on_progress: ProgressCallback) -> None:
        nonlocal started
        started += 1
        left = step if started == run else -1

        def on_step(progress: RunProgress) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
            on_progress(progress)

        execute(request, on_step)

    return execute_or_die
