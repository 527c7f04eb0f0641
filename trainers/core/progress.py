"""How a run reports its progress, and how it is cancelled: a callback that gets every step and may raise `Cancelled`."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class RunProgress(msgspec.Struct, frozen=True):
    """One step of a run.

    Attributes:
        phase: What is being done: `scoring the champion`, `training`, `scoring the candidate`.
        step: How many steps of the phase are done.
        steps: How many steps the phase has.
        epoch: Counted from 1; 0 outside of training.
        loss: Of the step's batch; 0 outside of training.
    """

    phase: str
    step: int
    steps: int
    epoch: int = 0
    loss: float = 0.0


ProgressCallback = Callable[[RunProgress], None]


class Cancelled(Exception):
    """The run was cancelled; what it had not finished is repeated later."""


def no_progress(progress: RunProgress) -> None:
    """Ignore the progress."""
