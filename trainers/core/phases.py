"""How long each phase of a run takes, so that it is known what a retrain spends its time on.

read          the examples, from the journal or a folder
prepare       load the parent or the base model; what is computed once per text
score parent  the parent on examples that it has not seen
fit           the optimizer
evaluate      the candidate and the baselines, during training and after it
draw          pictures
write         the files of the version, and their hashes
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from schemas.versions import PhaseTime
from trainers.core.progress import Cancelled

log = logging.getLogger(__name__)

MAX_ERROR_CHARS = 500
"""Longer errors of optional files are truncated."""

Phase = Literal["read", "prepare", "score parent", "fit", "evaluate", "draw", "write"]


def _no_time() -> tuple[float, float]:
    return 0.0, 0.0


class Phases:
    """Measures the phases of a run, which follow each other or lie within each other.

    Time within an inner phase is not part of the outer one. What a run can do without, such as a picture, is an
    `optional` phase.

    Args:
        now: Returns two times in seconds: of the clock on the wall, and of the processors that this process used.

    Attributes:
        left_out: File of an optional phase that failed -> its error.

    Example:
        >>> ticks = iter([(0, 0), (3, 6), (5, 8), (6, 9)])
        >>> phases = Phases(lambda: next(ticks))
        >>> phases.start("fit")
        >>> with phases.within("evaluate"):
        ...     pass
        >>> {name: time.seconds for name, time in phases.stop().items()}
        {'fit': 4.0, 'evaluate': 2.0}
    """

    def __init__(self, now: Callable[[], tuple[float, float]] = _no_time) -> None:
        self._now = now
        self._current: Phase | None = None
        self._since = (0.0, 0.0)
        self._times: dict[str, PhaseTime] = {}
        self.left_out: dict[str, str] = {}

    def start(self, phase: Phase | None) -> None:
        """End the current phase and start another, or none. A phase that was there before is continued."""
        now = self._now()
        if self._current:
            before = self._times.get(self._current, PhaseTime())
            self._times[self._current] = PhaseTime(
                before.seconds + now[0] - self._since[0], before.processor_seconds + now[1] - self._since[1]
            )
        self._current, self._since = phase, now

    @contextlib.contextmanager
    def within(self, phase: Phase) -> Iterator[None]:
        """A phase within the current one, which goes on after the block."""
        outer = self._current
        self.start(phase)
        try:
            yield
        finally:
            self.start(outer)

    @contextlib.contextmanager
    def optional(self, phase: Phase, file: str) -> Iterator[None]:
        """A phase that writes a file which the version can do without. An exception is logged, kept, and ends it.

        Args:
            phase: `draw` or `write`.
            file: Its name.
        """
        with self.within(phase):
            try:
                yield
            except Cancelled:
                raise
            except Exception as error:  # noqa: BLE001  whatever it is, the version is complete without this file
                self.left_out[file] = f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARS]
                log.warning("%s is left out: %s", file, self.left_out[file])

    def stop(self) -> dict[str, PhaseTime]:
        """End the current phase. Returns phase -> its time so far, in the order in which they ended first."""
        self.start(None)
        return dict(self._times)


NOT_MEASURED = Phases()
"""For a caller who does not ask: the times are 0."""


def describe(times: Mapping[str, PhaseTime]) -> str:
    """The phases in one line, the longest first; those under half a second are left out.

    >>> describe({"fit": PhaseTime(12.0, 23.0), "read": PhaseTime(0.1, 0.1), "evaluate": PhaseTime(31.2, 31.0)})
    'evaluate 31 s, fit 12 s'
    """
    longest = sorted(times.items(), key=lambda item: -item[1].seconds)
    return ", ".join(f"{name} {time.seconds:.0f} s" for name, time in longest if time.seconds >= 0.5)
