"""Progress bars of a run on a terminal, and its cancellation."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBars

from trainers.core.progress import Cancelled, ProgressCallback, RunProgress


@contextlib.contextmanager
def progress_bars(title: str, cancel: threading.Event) -> Iterator[ProgressCallback]:
    """A callback that shows a bar with the remaining time for each phase of a run.

    Args:
        title: Shown before the name of the phase.
        cancel: Once it is set, the callback raises `Cancelled`.

    Yields:
        The callback. It shows nothing if standard error is not a terminal.
    """
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    tasks: dict[str, TaskID] = {}
    with ProgressBars(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bars:

        def on_progress(progress: RunProgress) -> None:
            if cancel.is_set():
                raise Cancelled
            if progress.phase not in tasks:
                tasks[progress.phase] = bars.add_task(f"{title} {progress.phase}", total=progress.steps, loss="")
            loss = f"loss {progress.loss:.3f}" if progress.epoch else ""
            bars.update(tasks[progress.phase], completed=progress.step, loss=loss)

        yield on_progress
