"""Starts one service for a state folder, or finds the one that is running there.

    running and answering? ──yes──> used
                │ no
    owned by another process? ──yes──> wait until it answers, or is given up
                │ no: we own it now
    leftovers stopped ──> jars ──> ports ──> Java under a watchdog ──> waits until it answers

Data has one owner: the process that started the service holds its lock until it has stopped it, also while Java is
being started again after it exited. Only the owner starts and stops it; others use it. Processes whose owner is
dead are stopped before a new one is started on the same data.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from rich.progress import Progress

from schemas.errors import BadConfiguration, RetryLater
from streams.local import aot_cache, jars, java, supervisor
from streams.local.machine import check_disk, free_port, is_free
from streams.local.state import GRACE_S, Folders, clear, find, make_state_folder, read_json
from transport.files import lock

log = logging.getLogger(__name__)

OWNER_TIMEOUT_S = 900.0
"""Longest wait for another process that owns the service and does not have it running, seconds."""
STATE_FREE_MB = 300
"""Free disk space that a start needs for data, MB."""
POLL_S = 0.1
PORT_ATTEMPTS = 3
KILLED = 128 + 9
TAIL_LINES = 25


class Service(Protocol):
    """What this module needs to know of a service; see `LocalKafka` and `LocalNeo4j`."""

    @property
    def name(self) -> str:
        """Identifies it in file names and records."""

    @property
    def title(self) -> str:
        """What people call it, for messages."""

    @property
    def lock(self) -> Path:
        """The list of its jars, with their hashes."""

    @property
    def home(self) -> Path:
        """The folder of its data and logs."""

    @property
    def port(self) -> int:
        """The port that is configured; 0 for any free one."""

    @property
    def port_count(self) -> int:
        """How many ports it listens on."""

    @property
    def heap_mb(self) -> int:
        """The heap of its Java process, MB."""

    @property
    def memory_mb(self) -> int:
        """What the process needs in all, MB."""

    @property
    def records(self) -> bool:
        """Whether Java writes a cache of its classes when it ends."""

    def prepare(self, ports: Sequence[int], java: Sequence[str], /) -> list[str]:
        """Write its configuration, and return the command that starts it."""

    def is_ready(self, port: int) -> bool:
        """Whether it answers requests on a port of this machine."""


@dataclass
class Started:
    """A service that answers.

    Attributes:
        name: Its name.
        port: Its first port.
        log: Its log file.
        watchdog: Its watchdog; None if another process owns it.
        grace_s: Seconds that it may take to end.
    """

    name: str
    port: int
    log: Path
    watchdog: supervisor.Watchdog | None = None
    grace_s: float = GRACE_S
    _launch: Callable[[], supervisor.Watchdog] | None = field(default=None, repr=False, compare=False)
    _owned: ExitStack = field(default_factory=ExitStack, repr=False, compare=False)

    def relaunch(self) -> supervisor.Watchdog:
        """Start it again on the same ports, after it has exited, without waiting until it answers.

        Raises:
            BadConfiguration, RetryLater, OSError: It can't be started.
        """
        assert self._launch is not None, "only its owner starts a service"
        if self.watchdog is not None:
            supervisor.stop([self.watchdog], self.grace_s)
        self.watchdog = self._launch()
        return self.watchdog

    def release(self) -> None:
        """Give the ownership up. It must have ended."""
        self._owned.close()


def start(
    service: Service,
    folders: Folders,
    repository: str | None,
    timeout_s: float,
    progress: Progress | None,
    cancelled: threading.Event,
    *,
    own: bool = False,
) -> Started:
    """Start a service and wait until it answers, or find it running.

    Args:
        service: Which.
        folders: Its state folder and the cache.
        repository: Address of the Maven repository; None: the user's mirror or Maven Central.
        timeout_s: Longest time from the start of Java to the first answer, seconds.
        progress: Where a download is shown; None: a display of its own on stderr.
        cancelled: When set, the start ends with `RetryLater`.
        own: Do not use one that another process owns: wait until that process has stopped it, then start it.

    Raises:
        BadConfiguration: The configured port is taken, the disk is full, or Java ended (with the end of its log).
        RetryLater: It does not answer in time, jars are missing and there is no network, another process owns it
            and it does not answer, or the start was cancelled.
    """
    make_state_folder(folders.state)
    with ExitStack() as owned:
        port = _own_or_find(service, folders, owned, cancelled, own=own)
        if port is not None:
            log.info("%s is already running on port %d", service.title, port)
            return Started(service.name, port, folders.log(service.name))
        clear(service.name, folders)
        check_disk(folders.state, STATE_FREE_MB, "SX9_STATE_DIR")
        class_path = class_path_of(service, folders, repository, progress, cancelled)
        started = _start_on_a_port(service, folders, class_path, timeout_s, cancelled)
        started._owned = owned.pop_all()
        return started


def class_path_of(
    service: Service,
    folders: Folders,
    repository: str | None,
    progress: Progress | None,
    cancelled: threading.Event,
) -> list[Path]:
    """The jars of a service; those that are missing are downloaded. Arguments and errors are those of `start`."""
    locked = jars.read_lock(service.lock)
    return jars.fetch(service.name, locked, folders.cache / "jars", repository, progress, cancelled)


def stop(started: Sequence[Started]) -> None:
    """Stop the services that this process owns, at the same time, and wait until they have ended."""
    grace_s = max((one.grace_s for one in started), default=GRACE_S)
    killed = supervisor.stop([s.watchdog for s in started if s.watchdog is not None], grace_s)
    for one in started:
        one.release()
    if killed:
        log.error("watchdogs %s did not end and were killed", killed)


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log file."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def _own_or_find(
    service: Service, folders: Folders, owned: ExitStack, cancelled: threading.Event, *, own: bool
) -> int | None:
    """Take the lock of a service into `owned`, or wait until the service of its owner answers.

    Returns:
        The port of a service that another process owns; None if we own it now.
    """
    found: list[int] = []

    def is_found() -> bool:
        port = None if own else find(service.name, folders)
        if port is not None and service.is_ready(port) and find(service.name, folders) == port:
            found.append(port)
        return bool(found) or cancelled.is_set()

    path = folders.run(service.name, "lock")
    try:
        owned.enter_context(lock(path, f"using {service.title}", timeout_s=OWNER_TIMEOUT_S, cancel_check=is_found))
    except RetryLater as error:
        if found:
            return found[0]
        if cancelled.is_set():
            raise RetryLater(f"the start of {service.title} was stopped") from None
        raise RetryLater(
            f"another process owns the {service.title} in {service.home} and it does not answer: see "
            f"{folders.log(service.name)}, stop that process (`sx9 up`), or choose another folder with --state-dir"
        ) from error
    return None


def _start_on_a_port(
    service: Service, folders: Folders, class_path: Sequence[Path], timeout_s: float, cancelled: threading.Event
) -> Started:
    """Start on the configured port or a free one. Another program may take the port before Java does: try again."""
    for attempt in range(1, PORT_ATTEMPTS + 1):
        ports = _choose_ports(service, folders.run(service.name, "port"))
        began = time.monotonic()
        watchdog = _launch(service, folders, class_path, ports)
        try:
            _wait_until_ready(service, folders, watchdog, ports[0], timeout_s, cancelled)
        except BaseException as error:
            supervisor.stop([watchdog], GRACE_S)
            was_taken = isinstance(error, BadConfiguration) and not all(is_free(port) for port in ports)
            if was_taken and attempt < PORT_ATTEMPTS:
                continue
            raise
        log.info("%s is up on port %d after %.1f s", service.title, ports[0], time.monotonic() - began)
        again = partial(_relaunch, service, folders, class_path, ports)
        return Started(service.name, ports[0], folders.log(service.name), watchdog, _grace_s(service), again)
    raise AssertionError("the last attempt returns or raises")


def _choose_ports(service: Service, port_file: Path) -> list[int]:
    """The configured port, those of the last start, or free ones; the choice is saved in `port_file`."""
    if service.port and not is_free(service.port):
        raise BadConfiguration(
            f"port {service.port} (SX9_{service.name.upper()}_PORT) is taken by another program: stop that one, "
            "choose another port, or unset it to have a free one chosen"
        )
    last = read_json(port_file) or []
    candidates = [service.port, *last[1:]] if service.port else list(last)
    ports = [port for port in candidates if is_free(port)]
    while len(ports) < service.port_count:
        ports.append(free_port(set(ports)))
    port_file.write_text(json.dumps(ports))
    return ports


def _launch(
    service: Service, folders: Folders, class_path: Sequence[Path], ports: Sequence[int]
) -> supervisor.Watchdog:
    """Launch Java under a watchdog."""
    temporary = service.home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    log_file = folders.log(service.name)
    argument_file = folders.run(service.name, "args")
    options = java.options(service.heap_mb, class_path, temporary, log_file.with_suffix(".crash"))
    cache = aot_cache.cache_file(service.name, class_path, folders.cache)
    options += [f"-XX:AOTCache={cache}"] if cache.exists() else []
    argument_file.write_text(java.argument_file(options))
    command = java.java_command(argument_file)
    main_class = service.prepare(ports, command)
    recording = [f"-XX:AOTCacheOutput={aot_cache.partial_file(cache)}"] if service.records else []
    argument_file.write_text(java.argument_file([*options, *recording, *main_class]))
    return supervisor.launch(
        [*java.CLEAN_ENVIRONMENT, *command],
        log_file,
        grace_s=_grace_s(service),
        cwd=service.home,
        state_file=folders.run(service.name, "json"),
        details={"port": ports[0]},
    )


def _grace_s(service: Service) -> float:
    return aot_cache.WRITE_S if service.records else GRACE_S


def _relaunch(
    service: Service, folders: Folders, class_path: Sequence[Path], ports: Sequence[int]
) -> supervisor.Watchdog:
    """Launch Java again, after what is left of its last start was stopped."""
    clear(service.name, folders)
    return _launch(service, folders, class_path, ports)


def _wait_until_ready(
    service: Service,
    folders: Folders,
    watchdog: supervisor.Watchdog,
    port: int,
    timeout_s: float,
    cancelled: threading.Event,
) -> None:
    deadline = time.monotonic() + timeout_s
    path = folders.log(service.name)
    while not service.is_ready(port):
        code = watchdog.poll()
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
    """What an exit code usually means."""
    if code == KILLED:
        return " (killed, as a machine or container does that is out of memory: give it more)"
    if code == java.OUT_OF_MEMORY:
        return f" (its heap of {service.heap_mb} MB is full: raise SX9_{service.name.upper()}_HEAP_MB)"
    return ""
