"""Keeps one Java process running for as long as the process that wants it lives, and not longer.

    owner ──pipe──> supervisor ──> java        python supervisor.py '{"command": [...], "state": "kafka.json", ...}'

The owner holds the writing end of a pipe on our standard input. When that closes (the owner ended it, or was
killed with -9), or our parent changes, or we get SIGTERM, Java gets SIGTERM, then time, then SIGKILL. The
state file exists while Java may be running, and says so when it is being stopped. We are in a session of our
own, so Ctrl-C in the terminal reaches only the owner. Standard library only: it starts in 50 ms.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

POLL_S = 0.2
PR_SET_PDEATHSIG = 1


def supervise(command: list[str], state: Path, known: dict[str, Any], owner: int, grace_s: float) -> int:
    """Run Java until it ends or is no longer wanted.

    Args:
        command: The Java command line.
        state: The state file, written after Java has started and removed after it has ended.
        known: What the state file holds beside the process numbers.
        owner: Process number of our parent.
        grace_s: Seconds between SIGTERM and SIGKILL.

    Returns:
        Java's exit code; negative for the signal that killed it.
    """
    wanted = wants(owner)
    java = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        env={"LANG": "C.UTF-8"},  # nothing of ours: JAVA_TOOL_OPTIONS and its like would change the heap
        preexec_fn=die_with_parent(),  # noqa: PLW1509  we have one thread
    )
    entry = known | {"owner": owner, "supervisor": os.getpid(), "java": java.pid, "stopping": False}
    try:
        write(state, entry)
        while java.poll() is None and wanted():
            pass
        write(state, entry | {"stopping": True})
        return stop(java, grace_s)
    finally:
        if java.poll() is not None:
            remove(state, java.pid)


def wants(owner: int) -> Callable[[], bool]:
    """A function that waits for `POLL_S` and returns whether the owner still wants Java."""
    asked_to_stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: asked_to_stop.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def wanted() -> bool:
        closed, _, _ = select.select([sys.stdin], [], [], POLL_S)
        # A child that the owner forked may hold the pipe open: so look at our parent, too.
        return not (closed or asked_to_stop or os.getppid() != owner)

    return wanted


def die_with_parent() -> Callable[[], object] | None:
    """On Linux, what makes the child get SIGTERM when we ourselves are killed with -9."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def stop(java: subprocess.Popen[bytes], grace_s: float) -> int:
    """SIGTERM, time to end, SIGKILL; nothing to do if it has ended."""
    java.terminate()
    try:
        return java.wait(grace_s)
    except subprocess.TimeoutExpired:
        java.kill()
        return java.wait()


def write(state: Path, entry: dict[str, Any]) -> None:
    """Replace the state file in one step."""
    partial = state.with_suffix(".part")
    partial.write_text(json.dumps(entry))
    partial.replace(state)


def remove(state: Path, java: int) -> None:
    """Remove the state file if it is still about our Java process."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        if json.loads(state.read_text())["java"] == java:
            state.unlink()


def main() -> int:
    """Supervise what the JSON object in the only argument describes; returns Java's exit code as a shell does."""
    spec = json.loads(sys.argv[1])
    code = supervise(spec["command"], Path(spec["state"]), spec["known"], spec["owner"], spec["grace_s"])
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
