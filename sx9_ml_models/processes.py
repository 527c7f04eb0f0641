"""Child processes of our own program: each runs under a watchdog, and one that exits is restarted.

    parent ──pipe──> watchdog ──> `sx9 run ROLE`        (streams/local/supervisor.py: nothing outlives the parent)

The pause before a restart grows with each exit; after a child has run for `STEADY_S` it starts again with the
shortest. The output of a child goes to `logs/<name>.log`; `.log.1` is that of the start before.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streams.local import supervisor
from streams.local.process import tail

log = logging.getLogger(__name__)

RESTART_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses before restarts, seconds. The last one repeats without limit."""
STEADY_S = 60.0
"""A child that ran for this long is restarted after the shortest pause, seconds."""
GRACE_S = 15.0
"""From SIGTERM to SIGKILL, seconds."""
TAIL_LINES = 5


@dataclass
class Child:
    """One process that should be running.

    Attributes:
        name: For people, and for the name of its log file.
        command: Arguments of `sx9`.
        log: Its log file.
        metrics_port: Port of its /metrics.
        env: Environment variables that are added to ours.
        lock_fd: File descriptor that stays open until it has ended; None: none.
        starts: Number of starts so far.
    """

    name: str
    command: Sequence[str]
    log: Path
    metrics_port: int
    env: Mapping[str, str] = field(default_factory=dict)
    lock_fd: int | None = None
    starts: int = 0
    _watchdog: supervisor.Watchdog | None = None
    _started_s: float = 0.0
    _restart_s: float = 0.0
    _failures: int = 0

    @property
    def watchdog(self) -> supervisor.Watchdog | None:
        """The watchdog of its last start; None before the first."""
        return self._watchdog

    def start(self) -> None:
        """Start it."""
        if self._watchdog is not None and self._watchdog.stdin is not None:
            self._watchdog.stdin.close()
        self._watchdog = supervisor.launch(
            [sys.executable, "-m", "sx9_ml_models", *self.command],
            self.log,
            grace_s=GRACE_S,
            env=os.environ | self.env,
            pass_fds=() if self.lock_fd is None else (self.lock_fd,),
        )
        self.starts += 1
        self._started_s = time.monotonic()
        self._restart_s = 0.0

    def restart_if_exited(self) -> str | None:
        """Restart it once it has exited and the pause is over.

        Returns:
            At the first call after an exit, a message about it; otherwise None.
        """
        code = None if self._watchdog is None else self._watchdog.poll()
        if code is None:
            return None
        if self._restart_s:
            if time.monotonic() >= self._restart_s:
                self.start()
            return None
        pause_s = self._next_pause_s()
        self._restart_s = time.monotonic() + pause_s
        return (
            f"{self.name} exited with code {code} and restarts in {pause_s:.0f} s; "
            f"the end of {self.log}:\n{tail(self.log, TAIL_LINES)}"
        )

    def _next_pause_s(self) -> float:
        if time.monotonic() - self._started_s > STEADY_S:
            self._failures = 0
        pause_s = RESTART_PAUSES_S[min(self._failures, len(RESTART_PAUSES_S) - 1)]
        self._failures += 1
        return pause_s


class Children:
    """Several child processes.

    Args:
        children: Which; `start` starts them.
    """

    def __init__(self, children: Sequence[Child]) -> None:
        self.all = tuple(children)

    def start(self) -> None:
        """Start all."""
        for child in self.all:
            child.start()

    def restart_exited(self) -> list[str]:
        """Restart the children that have exited, each after a pause. Call it about once a second.

        Returns:
            A message about each child that has exited since the last call.
        """
        messages = [child.restart_if_exited() for child in self.all]
        return [message for message in messages if message is not None]

    def stop(self) -> None:
        """Stop all at the same time: SIGTERM, a grace period, SIGKILL."""
        killed = supervisor.stop([child.watchdog for child in self.all if child.watchdog is not None], GRACE_S)
        if killed:
            log.error("watchdogs %s did not end and were killed", killed)


@contextlib.contextmanager
def running(children: Children) -> Iterator[Children]:
    """Run the children until the block ends."""
    try:
        children.start()
        yield children
    finally:
        children.stop()
