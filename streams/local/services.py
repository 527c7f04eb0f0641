"""Kafka and Neo4j for a process: configured ones, those already running here, or new ones.

configured?  SX9_KAFKA_BOOTSTRAP, SX9_NEO4J_URI ──yes──> checked, used, never stopped
     │ no
running for this state folder? ──yes──> used, left running: the process that started it stops it
     │ no
started as child processes, both at once; stopped when the block ends, at SIGTERM, or when we are killed
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.progress import Progress

from streams.local import aot_cache, process
from streams.local.kafka import LocalKafka, check_kafka
from streams.local.machine import check_memory, make_folder
from streams.local.neo4j import LocalNeo4j, check_neo4j
from streams.local.probe import kafka_answers, neo4j_answers
from streams.local.state import Folders, find
from streams.settings import PREFIX, Settings
from transport.logins import kafka_login, neo4j_login, use_kafka_login, use_neo4j_ca


@dataclass(frozen=True)
class Endpoints:
    """Addresses of Kafka and Neo4j.

    Attributes:
        kafka_bootstrap: host:port; empty if Kafka was not wanted.
        neo4j_uri: bolt://host:port; empty if Neo4j was not wanted.
        neo4j_user: User name.
        neo4j_password: Password; empty: no authentication.
    """

    kafka_bootstrap: str
    neo4j_uri: str
    neo4j_user: str
    neo4j_password: str = field(repr=False)


@dataclass(frozen=True)
class Owned:
    """Kafka and Neo4j of a process that watches over them.

    Attributes:
        endpoints: Their addresses.
        started: Those that the process has started; none that are configured.
    """

    endpoints: Endpoints
    started: Sequence[process.Started]


@contextmanager
def services(
    settings: Settings, *, kafka: bool = True, neo4j: bool = True, progress: Progress | None = None
) -> Iterator[Endpoints]:
    """Provide Kafka and Neo4j while the block runs.

    Args:
        settings: Addresses of configured services, or folders and sizes of local ones.
        kafka: Whether Kafka is wanted.
        neo4j: Whether Neo4j is wanted.
        progress: Where downloads are shown; None: a display of its own on stderr.

    Yields:
        Their addresses; each service answers.

    Raises:
        RetryLater: A configured service doesn't answer, a local one doesn't answer in time, or a download fails.
        BadConfiguration: A person must change something: a port, a disk, memory, a password.
    """
    wanted = _checked(settings, kafka, neo4j)
    with _signals_end_the_block(), ExitStack() as stack:
        started = _start(wanted, settings, progress, stack) if wanted else []
        yield _endpoints(settings, {one.name: one.port for one in started})


@contextmanager
def owned_services(settings: Settings) -> Iterator[Owned]:
    """Provide Kafka and Neo4j while the block runs, for a process that restarts them when they exit.

    It owns the local ones: if another process has started one, it waits until that process has stopped it.

    Args:
        settings: As for `services`.

    Raises:
        RetryLater, BadConfiguration: As `services`.
    """
    wanted = _checked(settings, kafka=True, neo4j=True)
    with _signals_end_the_block(), ExitStack() as stack:
        started = _start(wanted, settings, None, stack, own=True) if wanted else []
        yield Owned(_endpoints(settings, {one.name: one.port for one in started}), started)


def running(settings: Settings, *, kafka: bool = True, neo4j: bool = True) -> Endpoints | None:
    """Find the services that are up, configured or local, without starting any.

    Args:
        settings: As for `services`.
        kafka: Whether Kafka is wanted.
        neo4j: Whether Neo4j is wanted.

    Returns:
        Their addresses; None if a wanted one doesn't answer. The password of a configured one is not checked.
    """
    _use_logins(settings)
    found = {s.name: find(s.name, _folders(settings)) for s in _local_services(settings, kafka, neo4j)}
    ports = {name: port for name, port in found.items() if port is not None}
    endpoints = _endpoints(settings, ports)
    kafka_up = not kafka or (endpoints.kafka_bootstrap and kafka_answers(endpoints.kafka_bootstrap))
    neo4j_up = not neo4j or (endpoints.neo4j_uri and neo4j_answers(endpoints.neo4j_uri))
    return endpoints if kafka_up and neo4j_up else None


def settings_of(kafka_bootstrap: str = "", neo4j_uri: str = "") -> dict[str, str]:
    """The settings, by name, with which another process uses the services that this one uses.

    Args:
        kafka_bootstrap: Address of Kafka; empty: not wanted.
        neo4j_uri: Address of Neo4j; empty: not wanted.

    >>> settings_of("127.0.0.1:9092")["kafka_security_protocol"]
    'PLAINTEXT'
    """
    found: dict[str, str] = {}
    if kafka_bootstrap:
        login = kafka_login(kafka_bootstrap)
        found |= {"kafka_bootstrap": kafka_bootstrap, "kafka_security_protocol": login.protocol}
        found |= {
            "kafka_sasl_mechanism": login.mechanism,
            "kafka_user": login.user,
            "kafka_password": login.password,
        }
    if neo4j_uri:
        user, password = neo4j_login(neo4j_uri)
        found |= {"neo4j_uri": neo4j_uri, "neo4j_user": user, "neo4j_password": password}
    return found


def environment_of(kafka_bootstrap: str = "", neo4j_uri: str = "") -> dict[str, str]:
    """The same as environment variables: never put them on a command line, which others can read."""
    return {f"{PREFIX}{name}".upper(): value for name, value in settings_of(kafka_bootstrap, neo4j_uri).items()}


def _checked(settings: Settings, kafka: bool, neo4j: bool) -> list[process.Service]:
    """The wanted services that are not configured; those that are configured must answer."""
    _use_logins(settings)
    if kafka and settings.kafka_bootstrap:
        check_kafka(settings.kafka_bootstrap)
    if neo4j and settings.neo4j_uri:
        check_neo4j(settings.neo4j_uri, settings.neo4j_user, settings.neo4j_password.get_secret_value())
    return _local_services(settings, kafka, neo4j)


def _use_logins(settings: Settings) -> None:
    """Log in to the configured services as the settings say, from now on in this process."""
    if settings.kafka_bootstrap:
        use_kafka_login(settings.kafka_bootstrap, settings.kafka_login)
    if settings.neo4j_uri and settings.neo4j_ca_file:
        use_neo4j_ca(settings.neo4j_uri, settings.neo4j_ca_file)


def _local_services(settings: Settings, kafka: bool, neo4j: bool) -> list[process.Service]:
    """The wanted services that are not configured."""
    wanted: list[process.Service] = []
    if kafka and not settings.kafka_bootstrap:
        wanted.append(_local_kafka(settings))
    if neo4j and not settings.neo4j_uri:
        wanted.append(_local_neo4j(settings))
    return wanted


def _local_kafka(settings: Settings) -> LocalKafka:
    return LocalKafka(_folders(settings).state / "kafka", settings.kafka_port, settings.kafka_heap_mb)


def _local_neo4j(settings: Settings) -> LocalNeo4j:
    return LocalNeo4j(_folders(settings).state / "neo4j", settings.neo4j_port, settings.neo4j_heap_mb)


_LOCAL: tuple[Callable[[Settings], LocalKafka | LocalNeo4j], ...] = (_local_kafka, _local_neo4j)
"""What can run on this machine."""


def _folders(settings: Settings) -> Folders:
    return Folders(settings.state_dir.resolve(), settings.cache_dir.resolve())


def _start(
    wanted: list[process.Service],
    settings: Settings,
    progress: Progress | None,
    stack: ExitStack,
    *,
    own: bool = False,
) -> list[process.Started]:
    """Start all at the same time; `stack` stops those that we started, even if another one fails."""
    folders = _folders(settings)
    check_memory({s.name: s.memory_mb for s in wanted if find(s.name, folders) is None})
    cancelled = threading.Event()
    started: list[process.Started] = []
    stack.callback(process.stop, started)

    def start(service: process.Service) -> None:
        args = (folders, settings.maven_repository, settings.start_timeout_s, progress, cancelled)
        started.append(process.start(service, *args, own=own))

    _run_together([partial(start, service) for service in wanted], cancelled)
    return started


def make_aot_caches(settings: Settings) -> list[Path]:
    """Make the caches of classes that are missing; see `streams.local.aot_cache`. Takes about a minute.

    Args:
        settings: Folders and sizes. The state folder is one that nobody uses: both services start in it.

    Returns:
        The new ones. Where Java wrote none, the log of the service says why.

    Raises:
        RetryLater, BadConfiguration: As `services`.
    """
    folders, recorded = _folders(settings), {}
    args = (folders, settings.maven_repository, None, threading.Event())
    for service in (make(settings) for make in _LOCAL):
        cache = aot_cache.cache_file(service.name, process.class_path_of(service, *args), folders.cache)
        if not cache.exists():
            make_folder(cache.parent, "SX9_CACHE_DIR")
            recorded[cache] = replace(service, records=True)
    with _signals_end_the_block(), ExitStack() as stack:
        if recorded:
            _start([*recorded.values()], settings, None, stack)
    written = [cache for cache in recorded if aot_cache.partial_file(cache).exists()]
    return [aot_cache.partial_file(cache).replace(cache) for cache in written]


def _run_together(jobs: list[Callable[[], None]], cancelled: threading.Event) -> None:
    """Run jobs in threads. The first error, or Ctrl-C, cancels the others and is raised when all have ended."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        try:
            futures: list[Future[None]] = [pool.submit(job) for job in jobs]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            cancelled.set()
            raise


@contextmanager
def _signals_end_the_block() -> Iterator[None]:
    """Let SIGTERM and SIGINT end the block, also where the shell that started us ignores SIGINT.

    A shell does so for a job in the background. A handler that the program has set itself stays.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    handlers = {signal.SIGTERM: leave, signal.SIGINT: signal.default_int_handler}
    previous = {number: signal.getsignal(number) for number in handlers}
    replaced = [number for number in handlers if previous[number] in (signal.SIG_DFL, signal.SIG_IGN)]
    for number in replaced:
        signal.signal(number, handlers[number])
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, previous[number])


def _endpoints(settings: Settings, ports: dict[str, int]) -> Endpoints:
    """Addresses of the local services in `ports`, which let this process in, and of the configured ones."""
    kafka, neo4j = settings.kafka_bootstrap or "", settings.neo4j_uri or ""
    user, password = settings.neo4j_user, settings.neo4j_password.get_secret_value()
    if "kafka" in ports:
        kafka = _local_kafka(settings).log_in(ports["kafka"])
    if "neo4j" in ports:
        neo4j = _local_neo4j(settings).log_in(ports["neo4j"])
        user, password = neo4j_login(neo4j)
    return Endpoints(kafka, neo4j, user, password)
