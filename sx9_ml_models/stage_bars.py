"""A bar on the terminal for each stage of reading a feed, a journal or an archive."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from streams.fetchers.base.feed import OnProgress


@contextlib.contextmanager
def stage_bars(title: str) -> Iterator[OnProgress]:
    """A progress callback that shows a bar per stage on stderr, if that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:

        def on_progress(stage: str, done: int, total: int | None) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(f"{title}: {stage}", total=total)
            progress.update(bars[stage], completed=done, total=total)

        yield on_progress
