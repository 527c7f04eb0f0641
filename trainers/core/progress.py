"""The callback that a run reports each step to. It cancels the run by raising `Cancelled`."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class RunProgress(msgspec.Struct, frozen=True):
    """One step of a run.

    Attributes:
        phase: The phase of the run: `scoring the champion`, `training`, `scoring the candidate`.
        step: The number of steps of the phase that are done.
        steps: The number of steps of the phase.
        epoch: Counted from 1; 0 outside of training.
        loss: The loss of the step; 0 outside of training.
    """

    phase: str
    step: int
    steps: int
    epoch: int = 0
    loss: float = 0.0


ProgressCallback = Callable[[RunProgress], None]


class Cancelled(Exception):
    """The run was cancelled; a later run repeats it."""


def no_progress(progress: RunProgress) -> None:
    """Ignore the progress."""
