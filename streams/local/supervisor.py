"""Runs a command for as long as the process that launched it lives, and no longer.

    owner ──pipe──> watchdog ──> command        python supervisor.py '{"command": [...], "grace_s": 20, ...}'
                    log file <──pipe──┘

The owner holds the writing end of a pipe to the watchdog's standard input. When the pipe closes (the owner closed
it, ended, or was killed with -9), when the owner is no longer the watchdog's parent, or at SIGTERM, the watchdog
sends SIGTERM to the command, and SIGKILL if it is still running after a grace period. On Linux the command also
gets SIGTERM when the watchdog itself is killed with -9. Both are in a session of their own, so Ctrl-C in a terminal
reaches only the owner, which stops its processes in order.

The watchdog writes the output of the command to a log file of bounded size: a full one is renamed to `<name>.1`,
which replaces the one before. It ends with the exit code of the command. It uses only the standard library, to
start within 50 ms.
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
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

POLL_S = 0.2
MAX_LOG_BYTES = 10_000_000
"""Size of a log file at which it is renamed to `<name>.1`: a command has at most twice as much on the disk."""
DRAIN_TIMEOUT_S = 2.0
"""Longest wait for the rest of the output of a command that has ended, seconds: what it started may go on."""
PRIVATE_UMASK = 0o077
"""Files of a command are readable by their owner only."""
STOP_TIMEOUT_S = 5.0
"""Time that a watchdog has to end after it has killed its command, seconds."""
PR_SET_PDEATHSIG = 1

Watchdog = subprocess.Popen[bytes]


def launch(
    command: Sequence[str],
    log_file: Path,
    *,
    grace_s: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    state_file: Path | None = None,
    details: Mapping[str, Any] | None = None,
    pass_fds: Sequence[int] = (),
    umask: int = PRIVATE_UMASK,
    max_log_bytes: int = MAX_LOG_BYTES,
) -> Watchdog:
    """Launch a command under a watchdog.

    Args:
        command: The command line.
        log_file: Where its output goes. An existing log file is renamed to `<name>.1` first.
        grace_s: Seconds from SIGTERM to SIGKILL.
        cwd: Its working directory; None: ours.
        env: Its whole environment; None: ours.
        state_file: A JSON file that exists while the command runs, with the keys `owner`, `watchdog` and `child`
            (process ids) and `stopping` (whether the watchdog is stopping it); None: no such file.
        details: Further keys of the state file.
        pass_fds: File descriptors that the watchdog keeps open until the command has ended.
        umask: Permissions that files of the command do not get; -1: as ours.
        max_log_bytes: See `MAX_LOG_BYTES`.

    Returns:
        The process of the watchdog. Its return code is the exit code of the command; 128 + N if signal N killed it.
    """
    arguments = {
        "command": list(command),
        "owner": os.getpid(),
        "grace_s": grace_s,
        "log_file": str(log_file.absolute()),
        "max_log_bytes": max_log_bytes,
        "state_file": None if state_file is None else str(state_file),
        "details": dict(details or {}),
    }
    _rotate(log_file)
    with open(log_file, "ab", opener=_private_opener) as output:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, json.dumps(arguments, ensure_ascii=False)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env=env,
            pass_fds=pass_fds,
            umask=umask,
            start_new_session=True,
        )


def stop(watchdogs: Sequence[Watchdog], grace_s: float) -> list[int]:
    """Stop the commands of several watchdogs at the same time, and wait until all have ended.

    Args:
        watchdogs: From `launch`; some may have ended already.
        grace_s: The longest `grace_s` of `launch`, seconds.

    Returns:
        Process ids of the watchdogs that did not end in time and were killed.
    """
    for watchdog in watchdogs:
        if watchdog.stdin is not None:
            watchdog.stdin.close()
        watchdog.terminate()  # a process that the owner forked may hold the pipe open
    deadline = time.monotonic() + grace_s + STOP_TIMEOUT_S
    killed = []
    for watchdog in watchdogs:
        try:
            watchdog.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            watchdog.kill()
            watchdog.wait()
            killed.append(watchdog.pid)
    return killed


def _rotate(log_file: Path) -> None:
    """Rename an existing log file to `<name>.1`."""
    log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        log_file.replace(log_file.with_name(log_file.name + ".1"))


def _private_opener(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write_log(output: IO[bytes], log_file: Path, max_bytes: int) -> None:
    """Append what comes from a pipe to a log file, which is rotated when it is full, until the pipe is closed."""
    while chunk := os.read(output.fileno(), 65_536):
        with contextlib.suppress(OSError):  # with a full disk the command goes on without a log
            if log_file.exists() and log_file.stat().st_size + len(chunk) > max_bytes:
                _rotate(log_file)
            with open(log_file, "ab", opener=_private_opener) as log:
                log.write(chunk)


def watch(
    command: Sequence[str],
    *,
    owner: int,
    grace_s: float,
    log_file: Path,
    max_log_bytes: int,
    state_file: Path | None,
    details: Mapping[str, Any],
) -> int:
    """Run a command until it ends or must be stopped; this is the watchdog.

    Args:
        command: The command line.
        owner: Process id of our parent.
        grace_s: Seconds from SIGTERM to SIGKILL.
        log_file: Where its output goes.
        max_log_bytes: See `MAX_LOG_BYTES`.
        state_file: See `launch`; written after the command has started and removed after it has ended.
        details: See `launch`.

    Returns:
        The exit code of the command; negative for the signal that killed it.
    """
    must_stop = _stop_condition(owner)
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=_die_with_parent(os.getpid()),  # noqa: PLW1509  we have one thread
    )
    writer = threading.Thread(target=_write_log, args=(child.stdout, log_file, max_log_bytes), daemon=True)
    writer.start()
    state = {**details, "owner": owner, "watchdog": os.getpid(), "child": child.pid, "stopping": False}
    try:
        _write(state_file, state)
        while child.poll() is None and not must_stop():
            pass
        _write(state_file, state | {"stopping": True})
        return _stop_child(child, grace_s)
    finally:
        writer.join(DRAIN_TIMEOUT_S)
        if child.poll() is not None:
            _remove(state_file, child.pid)


def _stop_condition(owner: int) -> Callable[[], bool]:
    """A function that waits for up to `POLL_S` and returns whether the command must be stopped."""
    signals: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: signals.append(number))
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, lambda _number, _frame: None)  # SIG_IGN would be inherited by the command

    def must_stop() -> bool:
        closed, _, _ = select.select([sys.stdin], [], [], POLL_S)
        # A process that the owner forked may hold the pipe open, so our parent is checked, too.
        return bool(closed or signals or os.getppid() != owner)

    return must_stop


def _die_with_parent(parent: int) -> Callable[[], None] | None:
    """On Linux, a function that has the calling process get SIGTERM when its parent dies."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)

    def die_with_parent() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return die_with_parent


def _stop_child(child: subprocess.Popen[bytes], grace_s: float) -> int:
    """SIGTERM, a grace period, SIGKILL; only the exit code if the child has ended."""
    child.terminate()
    try:
        return child.wait(grace_s)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def _write(state_file: Path | None, state: Mapping[str, Any]) -> None:
    """Replace the state file in one step."""
    if state_file is None:
        return
    partial = state_file.with_suffix(".part")
    partial.write_text(json.dumps(state))
    partial.replace(state_file)


def _remove(state_file: Path | None, child: int) -> None:
    """Remove the state file if it is still that of our child."""
    if state_file is None:
        return
    with contextlib.suppress(FileNotFoundError, ValueError):
        if json.loads(state_file.read_text())["child"] == child:
            state_file.unlink()


def main() -> int:
    """Watch the command that the JSON object in the only argument describes.

    Returns:
        Its exit code; 128 + N if signal N killed it, as a shell reports it.
    """
    arguments = json.loads(sys.argv[1])
    state_file = arguments.pop("state_file")
    log_file = Path(arguments.pop("log_file"))
    code = watch(**arguments, log_file=log_file, state_file=None if state_file is None else Path(state_file))
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
