"""What the demo shows on the terminal: a progress bar, the decisions, and the models that train."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from schemas.versions import VersionEvent
from schemas.windows import Trigger
from streams.fetchers.base.feed import OnProgress
from sx9_ml_models.decisions import Decision, describe


class Display:
    """A progress bar over the events of the history, and the lines printed above it.

    Args:
        progress: Draws the bar; it has been started.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._title = "starting"
        self._bar = progress.add_task(self._title)
        self._training: dict[str, str] = {}

    def set_total(self, events: int) -> None:
        """Set the number of events that will be replayed."""
        self._progress.update(self._bar, total=events)

    def advance(self, events: int) -> None:
        """Add to the number of events that were replayed."""
        self._progress.advance(self._bar, events)

    @property
    def title(self) -> str:
        """The description of the progress bar."""
        training = ", ".join(f"{model} {version}" for model, version in sorted(self._training.items()))
        return f"{self._title}; training {training}" if training else self._title

    def set_title(self, title: str) -> None:
        """Set the description of the progress bar; the models in training are added to it."""
        self._title = title
        self._progress.update(self._bar, description=self.title)

    def on_decision(self, decision: Decision) -> None:
        """Print a trigger, or a version that was promoted or refused. Other decisions are not shown."""
        if isinstance(decision, Trigger):
            self._training[decision.model] = decision.version
        elif isinstance(decision, VersionEvent) and decision.outcome != "trained":
            self._training.pop(decision.model, None)
        else:
            return
        self.print(describe(decision))
        self.set_title(self._title)

    def print(self, line: str) -> None:
        """Print a line above the bar."""
        self._progress.print(line, markup=False)

    def add_bar(self, title: str) -> OnProgress:
        """Add a bar for a fetch, and return the callback that updates it."""
        bar = self._progress.add_task(title, total=None)

        def on_progress(stage: str, done: int, total: int | None) -> None:
            self._progress.update(bar, description=f"{title}: {stage}", completed=done, total=total)

        return on_progress


@contextlib.contextmanager
def open_display(console: Console) -> Iterator[Display]:
    """A display on a console, while the block runs."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield Display(progress)
