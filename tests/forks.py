"""Processes that are forked from one that has imported everything, so that a start takes milliseconds.

    test ──stdin: what to start──> server, which imports ──fork──> a role, a trainer, a fetch
         <──stdout: started, ended──┘

Tests that kill processes often can then do so at moments that matter: a role that is started in the ordinary way
spends most of its first seconds on imports. The server ends with the test, and its children with it.

python -m tests.forks MODULE ...     imports the modules and serves
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import queue
import random
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
START_TIMEOUT_S = 300.0
POLL_S = 0.02
PR_SET_PDEATHSIG = 1
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Fork:
    """A process that the server has forked; its methods are those of `subprocess.Popen`."""

    def __init__(self, pid: int, ended: threading.Event, codes: dict[int, int]) -> None:
        self.pid = pid
        self._ended = ended
        self._codes = codes

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        return self._codes[self.pid] if self._ended.is_set() else None

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return self._codes[self.pid]

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        if not self._ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def kill_at_random(start: Callable[[], Fork], kills: int, longest_s: float, rng: random.Random) -> None:
    """Start a process again and again until so many were killed, each within `longest_s` of its start."""
    while kills:
        one = start()
        try:
            one.wait(longest_s * rng.random())
        except subprocess.TimeoutExpired:
            one.kill()
            one.wait()
            kills -= 1


class Forks:
    """A server that has imported some modules, and the processes that it has forked.

    Args:
        modules: What it imports before the first start.
        log_file: Its output, which has what went wrong with the imports.
    """

    def __init__(self, *modules: str, log_file: Path) -> None:
        self._log_file = log_file
        with log_file.open("wb") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", __name__, *modules],
                cwd=ROOT,
                env=os.environ | ONE_THREAD,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the test only
            )
        self._lock = threading.Lock()
        self._started: queue.Queue[int | None] = queue.Queue()
        self._ended: dict[int, threading.Event] = {}
        self._codes: dict[int, int] = {}
        self._reader = threading.Thread(target=self._read, name="forks", daemon=True)
        self._reader.start()

    def start(self, target: str, log_file: Path, **arguments: Any) -> Fork:
        """Fork a process that calls a function.

        Args:
            target: `module:function`.
            log_file: Its output, appended.
            arguments: Of the function; as in JSON.
        """
        request = json.dumps({"target": target, "log": str(log_file), "arguments": arguments})
        assert self._server.stdin is not None
        with self._lock:
            self._server.stdin.write(request.encode() + b"\n")
            self._server.stdin.flush()
            pid = self._started.get(timeout=START_TIMEOUT_S)
        assert pid is not None, f"the server ended:\n{self._log_file.read_text()}"
        return Fork(pid, self._ended[pid], self._codes)

    def close(self) -> None:
        """End the server and all that it has forked."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(timeout=30)
        self._reader.join()
        self._server.stdout.close()

    def _read(self) -> None:
        assert self._server.stdout is not None
        for line in self._server.stdout:
            said = json.loads(line)
            if "started" in said:
                self._ended[said["started"]] = threading.Event()
                self._started.put(said["started"])
            else:
                self._codes[said["ended"]] = said["code"]
                self._ended[said["ended"]].set()
        self._started.put(None)


def _serve(modules: list[str]) -> None:
    """Fork what is asked for, and say what has ended, until standard input closes."""
    for module in modules:
        importlib.import_module(module)
    gc.freeze()  # what is imported stays shared
    children: set[int] = set()
    received = b""
    while True:
        readable, _, _ = select.select([0], [], [], POLL_S if children else None)
        while children and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            children.discard(ended[0])
            _say(ended=ended[0], code=os.waitstatus_to_exitcode(ended[1]))
        if not readable:
            continue
        if not (chunk := os.read(0, 65_536)):
            break
        *requests, received = (received + chunk).split(b"\n")
        for request in requests:
            pid = os.fork()
            if not pid:
                _run(**json.loads(request))
            children.add(pid)
            _say(started=pid)
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _say(**values: int) -> None:
    os.write(1, json.dumps(values).encode() + b"\n")


def _run(target: str, log: str, arguments: dict[str, Any]) -> None:
    """Call the function, and end this process."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        random.seed()  # else every process draws the same numbers
        module, _, name = target.partition(":")
        getattr(importlib.import_module(module), name)(**arguments)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  whatever it is, the parent must not go on twice
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1:])
