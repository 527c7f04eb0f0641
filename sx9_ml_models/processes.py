"""Child processes: each runs under a watchdog, and one that exits is restarted. Kafka and Neo4j are such, too.

    parent ──pipe──> watchdog ──> `sx9 run ROLE`, Kafka, Neo4j    (streams/local/supervisor.py: none outlives us)

The pause before a restart grows with each exit; after a child has run for `STEADY_S` it starts again with the
shortest. The output of a child goes to `logs/<name>.log`; `.log.1` is what was written before.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from schemas.errors import Sx9Error
from streams.local import supervisor
from streams.local.process import Started, tail

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
        launch: Launches it.
        log: Its log file.
        metrics_port: Port of its /metrics; 0: none.
        starts: Number of starts so far.
        watchdog: The watchdog of its last start; None before the first.
    """

    name: str
    launch: Callable[[], supervisor.Watchdog]
    log: Path
    metrics_port: int = 0
    starts: int = 0
    watchdog: supervisor.Watchdog | None = None
    _started_s: float = 0.0
    _restart_s: float = 0.0
    _failures: int = 0

    def start(self) -> None:
        """Start it."""
        if self.watchdog is not None and self.watchdog.stdin is not None:
            self.watchdog.stdin.close()
        self.starts += 1
        self._started_s = time.monotonic()
        self._restart_s = 0.0
        self.watchdog = self.launch()

    def restart_if_exited(self) -> str | None:
        """Restart it once it has exited and the pause is over.

        Returns:
            At the first call after an exit, a message about it; otherwise None.
        """
        code = None if self.watchdog is None else self.watchdog.poll()
        if code is None:
            return None
        if not self._restart_s:
            pause_s = self._wait_for_next_start()
            return (
                f"{self.name} exited with code {code} and restarts in {pause_s:.0f} s; "
                f"the end of {self.log}:\n{tail(self.log, TAIL_LINES)}"
            )
        if time.monotonic() < self._restart_s:
            return None
        try:
            self.start()
        except (Sx9Error, OSError) as error:
            return f"{self.name} can't be started ({error}); next attempt in {self._wait_for_next_start():.0f} s"
        return None

    def _wait_for_next_start(self) -> float:
        pause_s = self._next_pause_s()
        self._restart_s = time.monotonic() + pause_s
        return pause_s

    def _next_pause_s(self) -> float:
        if time.monotonic() - self._started_s > STEADY_S:
            self._failures = 0
        pause_s = RESTART_PAUSES_S[min(self._failures, len(RESTART_PAUSES_S) - 1)]
        self._failures += 1
        return pause_s


def role_child(
    name: str,
    command: Sequence[str],
    log: Path,
    metrics_port: int,
    env: Mapping[str, str],
    lock_fd: int | None,
    *,
    private: bool = True,
) -> Child:
    """A child that runs a command of our own program.

    Args:
        name: As for `Child`.
        command: Arguments of `sx9`.
        log: Its log file.
        metrics_port: Port of its /metrics.
        env: Environment variables that are added to ours.
        lock_fd: File descriptor that stays open until it has ended; None: none.
        private: Whether only its owner can read its files.
    """
    launch = partial(
        supervisor.launch,
        [sys.executable, "-m", "sx9_ml_models", *command],
        log,
        grace_s=GRACE_S,
        env=os.environ | env,
        pass_fds=() if lock_fd is None else (lock_fd,),
        umask=supervisor.PRIVATE_UMASK if private else -1,
    )
    return Child(name, launch, log, metrics_port)


def service_child(started: Started) -> Child:
    """A local Kafka or Neo4j that runs already and that we own; `streams.local.process.stop` stops it."""
    return Child(started.name, started.relaunch, started.log, starts=1, watchdog=started.watchdog)


class Children:
    """Several child processes.

    Args:
        children: Which; `start` starts them and `stop` stops them.
        services: Those that run already, that are restarted like the others, and that somebody else stops.
    """

    def __init__(self, children: Sequence[Child], services: Sequence[Child] = ()) -> None:
        self.all = tuple(children)
        self._watched = (*services, *children)

    def start(self) -> None:
        """Start all."""
        for child in self.all:
            child.start()

    def restart_exited(self) -> list[str]:
        """Restart the children that have exited, each after a pause. Call it about once a second.

        Returns:
            A message about each child that has exited since the last call.
        """
        messages = [child.restart_if_exited() for child in self._watched]
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
