"""The files of a service in a state folder, and the processes that run there.

state folder     run/<name>.json   process ids and port while it runs; kept by the watchdog (supervisor.py)
                 run/<name>.port   the ports of the last start, used again if they are free
                 run/<name>.lock   held while the service is being started
                 run/<name>.args   the options of Java; the path also identifies its process
                 logs/<name>.log   its output; .log.1 is what was written before
                 <name>/           its data

Only its owner can open the state folder, and the folders in it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from streams.local.machine import PRIVATE_MODE, make_folder

log = logging.getLogger(__name__)

GRACE_S = 20.0
"""From SIGTERM to SIGKILL, seconds."""
CLEAR_TIMEOUT_S = GRACE_S + 5
POLL_S = 0.1
FOLDERS = ("run", "logs", "kafka", "neo4j", "faust", "cursors", "snapshots", "trainer")
"""All folders that the processes of the system have in the state folder."""


@dataclass(frozen=True)
class Folders:
    """Where the files of all services are.

    Attributes:
        state: The state folder.
        cache: The folder with the jars, shared by state folders.
    """

    state: Path
    cache: Path

    def run(self, service_name: str, suffix: str) -> Path:
        """A file of a service in the folder `run`."""
        return self.state / "run" / f"{service_name}.{suffix}"

    def log(self, service_name: str) -> Path:
        """The log file of a service."""
        return self.state / "logs" / f"{service_name}.log"


def make_state_folder(state: Path) -> None:
    """Create a state folder that only its owner can open; and close the folders in it that others can open.

    A state folder that exists keeps its own permissions: a person may have made it, for more than our files.

    Raises:
        BadConfiguration: It can't be created or written to.
    """
    make_folder(state, "SX9_STATE_DIR", PRIVATE_MODE)
    for name in FOLDERS:
        folder = state / name
        folder.mkdir(mode=PRIVATE_MODE, exist_ok=True)
        with contextlib.suppress(OSError):  # of another user, or on a file system without permissions
            if folder.stat().st_mode & 0o077:
                folder.chmod(PRIVATE_MODE)


def find(name: str, folders: Folders) -> int | None:
    """Port of the service that runs in a state folder. Whether it answers is not checked.

    Returns:
        None if none runs, it is being stopped, or its owner is dead.
    """
    state = read_json(folders.run(name, "json"))
    if state is None or state["stopping"]:
        return None
    running = _processes(name, folders, state)
    if "child" not in running or "watchdog" not in running or _parent(running["watchdog"]) != state["owner"]:
        return None
    return int(state["port"])


def clear(name: str, folders: Folders) -> None:
    """Stop the processes that an earlier start left behind, so that its data can be used."""
    state = read_json(folders.run(name, "json"))
    if state is None:
        return
    for send_signal in (psutil.Process.terminate, psutil.Process.kill):
        for process in _processes(name, folders, state).values():
            log.warning("stopping process %d, left behind by an earlier start of %s", process.pid, name)
            with contextlib.suppress(psutil.NoSuchProcess):
                send_signal(process)
        deadline = time.monotonic() + CLEAR_TIMEOUT_S
        while _processes(name, folders, state) and time.monotonic() < deadline:
            time.sleep(POLL_S)
    folders.run(name, "json").unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """The content of a JSON file; None if it does not exist, or is empty after a power failure."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _processes(name: str, folders: Folders, state: dict[str, Any]) -> dict[str, psutil.Process]:
    """The processes of a state file, by key, that run and are ours.

    The system may have given a process id to another program, so the command line is checked. A process that has
    ended and was not waited for has no command line and is left out.
    """
    argument = f"@{folders.run(name, 'args')}"
    expected = {"child": argument, "watchdog": json.dumps(argument, ensure_ascii=False)}
    found = {}
    for key, text in expected.items():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(state[key])
            if any(text in part for part in process.cmdline()):
                found[key] = process
    return found


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None
