"""Our own processes as children: started, restarted when they end, and never left behind.

    parent ──pipe──> child      the pipe closes when the parent ends, however it ends; the child then ends itself

A child that ends is started again after a pause that doubles; one that ran for a while starts over with the
shortest. Its output goes to `logs/<name>.log`; `.log.1` is the start before.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streams.local.process import tail

log = logging.getLogger(__name__)

PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_S = 60.0
"""A child that ran for so long starts over with the shortest pause."""
GRACE_S = 15.0
"""From SIGTERM to SIGKILL."""
PIPE = "SX9CHILD_PIPE"
"""Set in the environment of a child: its standard input is the parent's pipe."""


@dataclass
class Child:
    """One process that should be running.

    Attributes:
        name: For people, and of its log file.
        command: Arguments of `sx9`.
        log: Where its output goes.
        metrics_port: Where its /metrics are.
        env: What its environment has beside ours.
        lock: A file descriptor that it keeps open.
        starts: How often it was started.
    """

    name: str
    command: Sequence[str]
    log: Path
    metrics_port: int
    env: Mapping[str, str] = field(default_factory=dict)
    lock: int | None = None
    starts: int = 0
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    again: float = 0.0
    failures: int = 0

    def start(self) -> None:
        """Start it."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists():
            self.log.replace(self.log.with_name(self.log.name + ".1"))
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sx9_ml_models", *self.command],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                env=os.environ | self.env | {PIPE: "1"},
                pass_fds=() if self.lock is None else (self.lock,),
                start_new_session=True,  # Ctrl-C reaches only the parent, which stops all in order
            )
        self.starts += 1
        self.started = time.monotonic()

    @property
    def is_running(self) -> bool:
        """Whether it runs now."""
        return self.process is not None and self.process.poll() is None


class Children:
    """Several children.

    Args:
        children: Which; they are started by `start`.
    """

    def __init__(self, children: Sequence[Child]) -> None:
        self.all = tuple(children)

    def start(self) -> None:
        """Start all."""
        for child in self.all:
            child.start()

    def mend(self) -> list[str]:
        """Start again what has ended and has waited long enough.

        Returns:
            A sentence about each that has ended since the last call.
        """
        news = []
        for child in self.all:
            if child.is_running or child.process is None:
                continue
            now = time.monotonic()
            if not child.again:
                child.failures = 0 if now - child.started > STEADY_S else child.failures
                pause = PAUSES_S[min(child.failures, len(PAUSES_S) - 1)]
                child.failures += 1
                child.again = now + pause
                news.append(
                    f"{child.name} ended with code {child.process.returncode}, starts again in {pause:.0f} s; "
                    f"the end of {child.log}:\n{tail(child.log, 5)}"
                )
            elif now >= child.again:
                child.again = 0.0
                child.start()
        return news

    def stop(self) -> None:
        """Stop all together: SIGTERM, time, SIGKILL."""
        running = [child.process for child in self.all if child.process is not None and child.is_running]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + GRACE_S
        for process in running:
            try:
                process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                log.error("process %d does not end: killed", process.pid)
                process.kill()
                process.wait()
        for child in self.all:
            if child.process is not None and child.process.stdin is not None:
                child.process.stdin.close()


@contextlib.contextmanager
def running(children: Children) -> Iterator[Children]:
    """The children while the block runs."""
    try:
        children.start()
        yield children
    finally:
        children.stop()


def end_with_parent() -> None:
    """In a child: get SIGTERM when the parent is gone, and be killed if that doesn't end us in time.

    Does nothing in a process that isn't a child of `Children`.
    """
    if not os.environ.pop(PIPE, ""):
        return

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_S)
        os._exit(137)

    threading.Thread(target=wait, name="parent", daemon=True).start()
