"""Whether a process works, for /healthz and /readyz."""

from __future__ import annotations

import time
from collections.abc import Callable

STUCK_AFTER_S = 600.0
"""Seconds without a sign of life after which a process counts as stuck. No wait for a service is longer."""


class Health:
    """What a process says of itself. All methods may be called from any thread.

    A process is ready from `set_ready` to `set_not_ready`. Once it has called `beat`, it has to call it again and
    again: without a beat for `stuck_after_s` seconds it counts as stuck, and its supervisor should restart it.

    Args:
        stuck_after_s: Seconds, > 0.
        clock: Returns seconds that never go back.
    """

    def __init__(self, stuck_after_s: float = STUCK_AFTER_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._stuck_after_s = stuck_after_s
        self._clock = clock
        self._last_beat: float | None = None
        self._not_ready = "starting"

    def beat(self) -> None:
        """Say that the main loop of the process still goes round."""
        self._last_beat = self._clock()

    def set_ready(self) -> None:
        """The process does its work from now on. Counts as a beat."""
        self.beat()
        self._not_ready = ""

    def set_not_ready(self, reason: str) -> None:
        """The process does not do its work.

        Args:
            reason: Why not, such as `stopping`.
        """
        self._not_ready = reason

    def trouble(self) -> str:
        """Why the process should be restarted; empty: it should not."""
        if self._last_beat is None:
            return ""
        silent_s = self._clock() - self._last_beat
        return f"stuck: no sign of life for {silent_s:.0f} s" if silent_s > self._stuck_after_s else ""

    def not_ready(self) -> str:
        """Why the process does not do its work now; empty: it does."""
        return self._not_ready or self.trouble()
