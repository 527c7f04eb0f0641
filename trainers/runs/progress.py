"""How a run says where it is, and how it is stopped: a callable that gets every step and may raise `Stopped`."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Step(msgspec.Struct, frozen=True):
    """One step done.

    Attributes:
        phase: What is being done: `scoring the champion`, `training`, `scoring the candidate`.
        step, steps: How many steps of the phase are done, and of how many.
        epoch: Counted from 1; 0 outside of training.
        loss: Of the step's batch; 0 outside of training.
    """

    phase: str
    step: int
    steps: int
    epoch: int = 0
    loss: float = 0.0


Watch = Callable[[Step], None]


class Stopped(Exception):
    """The run was told to stop; what it had not finished is repeated later."""


def unwatched(step: Step) -> None:
    """Pays no attention."""


@contextlib.contextmanager
def watching(title: str, stop: threading.Event) -> Iterator[Watch]:
    """A watch that raises `Stopped` once `stop` is set and, on a terminal, shows bars with the time left."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    tasks: dict[str, int] = {}
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bars:

        def watch(step: Step) -> None:
            if stop.is_set():
                raise Stopped
            if step.phase not in tasks:
                tasks[step.phase] = bars.add_task(f"{title} {step.phase}", total=step.steps, loss="")
            loss = f"loss {step.loss:.3f}" if step.epoch else ""
            bars.update(tasks[step.phase], completed=step.step, loss=loss)  # type: ignore[arg-type]

        yield watch
