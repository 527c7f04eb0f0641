"""The whole system on one machine: Kafka, Neo4j, the app's roles, a trainer for each model, fetcher and server.

    sx9 up ──> Kafka, Neo4j    (streams/local/services.py)
           └─> children: `sx9 run journal | graph | fold | train --model ... | fetch | serve`      (processes.py)

All of them end with it: at Ctrl-C, at SIGTERM, and when it is killed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from schemas.errors import BadConfiguration, RetryLater
from schemas.models import MODELS
from serving.settings import ServeSettings, load_serve_settings
from streams.app.wiring import ROLES
from streams.local.machine import free_port, is_free
from streams.local.passwords import KAFKA_USER, NEO4J_USER, password_file
from streams.local.process import Started
from streams.local.services import Endpoints, owned_services
from streams.local.state import make_state_folder
from streams.settings import Settings
from sx9_ml_models.decisions import DecisionFollower, describe
from sx9_ml_models.monitoring import NAME as PROMETHEUS
from sx9_ml_models.monitoring import SERVER, prometheus_child, write_targets
from sx9_ml_models.processes import Children, role_child, running, service_child
from transport.files import lock, write_atomically
from transport.kafka import consumer
from transport.topics import create_topics

log = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 40.0
"""Longest wait for the children of a killed instance to end, seconds."""
RESTART_INTERVAL_S = 1.0
"""Seconds between two checks for children that have exited."""
TRAIN = "train"
"""The role that has one process for each model."""


@contextlib.contextmanager
def single_instance(state_dir: Path) -> Iterator[int]:
    """Make sure that only one instance of the system uses a state folder while the block runs.

    Yields:
        The file descriptor that holds the lock. The watchdogs of the children keep it open, so that a new instance
        waits until the children of a killed one have ended.

    Raises:
        RetryLater: Another instance runs in this folder, or the children of an earlier one do not end.
    """
    make_state_folder(state_dir)
    path = state_dir / "run" / "up.lock"
    descriptors: list[int] = []
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(
                lock(
                    path,
                    f"running in {state_dir}",
                    timeout_s=LOCK_TIMEOUT_S,
                    cancel_check=lambda: _running_owner(path) is not None,
                    on_acquired=descriptors.append,
                )
            )
        except RetryLater:
            owner = _running_owner(path)
            if owner is None:
                raise RetryLater(f"processes of an earlier start still hold {path}: stop them, or wait") from None
            raise RetryLater(
                f"it already runs here, as process {owner}: see `sx9 status`, stop it, or choose another folder "
                "with --state-dir"
            ) from None
        _write_owner(descriptors[0])
        yield descriptors[0]


def _running_owner(path: Path) -> int | None:
    """The process in a lock file if it still runs."""
    owner = path.read_text().strip()
    return int(owner) if owner and psutil.pid_exists(int(owner)) else None


def _write_owner(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)


def system_children(
    settings: Settings,
    started: Sequence[Started],
    *,
    fetch: bool,
    env: Mapping[str, str],
    lock_fd: int,
    monitoring: bool = False,
    page: str = "",
) -> Children:
    """The child processes of a system, not started yet, each with a port for its metrics; and its services.

    The list of them is written to `run/up.json` in the state folder, for `sx9 status`, and their addresses to
    `monitoring/targets/sx9.json`, for Prometheus.

    Args:
        settings: Give the state folder and the first metrics port.
        started: The local Kafka and Neo4j, which run already and are watched, too.
        fetch: Whether feeds are fetched.
        env: Environment variables of the children that are added to ours.
        lock_fd: The file descriptor from `single_instance`.
        monitoring: Whether Prometheus is one of them.
        page: Address of the page of the server, which is one of them; empty: there is none.

    Raises:
        BadConfiguration: There is no Prometheus on the path.
    """
    commands: dict[str, list[str]] = {name: ["run", name] for name in ROLES}
    commands |= {f"{TRAIN}-{model}": ["run", TRAIN, "--model", model] for model in MODELS}
    commands |= {"fetch": ["run", "fetch"]} if fetch else {}
    commands |= {"archive": ["run", "archive"]} if settings.archive_url else {}
    commands |= {SERVER: ["run", SERVER]} if page else {}
    taken: set[int] = set()
    children = []
    for index, (name, command) in enumerate(commands.items()):
        port = settings.metrics_port + index if settings.metrics_port else free_port(taken)
        taken.add(port)
        variable = "SX9_TRAINER_METRICS_PORT" if TRAIN in command else "SX9_METRICS_PORT"
        log_file = settings.logs_dir / f"{name}.log"
        added = {**env, variable: str(port)}
        private = TRAIN not in command  # others may use the models
        children.append(role_child(name, command, log_file, port, added, lock_fd, private=private))
    if monitoring:
        port = settings.prometheus_port or free_port(taken)
        children.append(prometheus_child(settings, port, lock_fd))
    write_targets(settings, children)
    listed = [{"name": c.name, "metrics_port": c.metrics_port, "log": str(c.log)} for c in children]
    listed = [one | ({"page": page} if one["name"] == SERVER else {}) for one in listed]
    write_atomically(settings.state_dir / "run" / "up.json", json.dumps(listed, indent=2).encode())
    return Children(children, [service_child(one) for one in started])


def up(settings: Settings, *, monitoring: bool = False) -> None:
    """Run the system until it is stopped.

    Args:
        settings: Of the system.
        monitoring: Whether to start a Prometheus that scrapes it.

    Raises:
        RetryLater, BadConfiguration: Kafka or Neo4j can't be started or used, or the system already runs.
    """
    with single_instance(settings.state_dir) as lock_fd:
        serve = server_settings(load_serve_settings()) if settings.serve else None
        page = page_of(serve) if serve else ""
        env = {"SX9_SERVE_PORT": str(serve.port), "SX9_SERVE_LOAD": serve.load} if serve else {}
        with owned_services(settings) as owned:
            create_topics(owned.endpoints.kafka_bootstrap, settings.replication_factor)
            fetch = settings.fetch_interval_s > 0
            children = system_children(
                settings, owned.started, fetch=fetch, env=env, lock_fd=lock_fd, monitoring=monitoring, page=page
            )
            with running(children):
                _announce(owned.endpoints, children, settings, page)
                _follow(owned.endpoints, children)


def server_settings(settings: ServeSettings) -> ServeSettings:
    """The settings of the server that `up` starts, with its port.

    Args:
        settings: What is set counts. Where no port is set and the usual one is taken, the server gets a free one.
            Models are loaded when somebody asks them, if nothing else is set.

    Raises:
        BadConfiguration: Something else listens on the port that is set.
    """
    port, chosen = settings.port, settings.model_fields_set
    if port and not is_free(port):
        if "port" in chosen:
            raise BadConfiguration(
                f"SX9_SERVE_PORT={port}: something listens there already: set another port, 0 for a free one, or "
                "start without the server (--no-serve)"
            )
        log.warning("port %d is taken: the server gets a free one", port)
        port = 0
    load = settings.load if "load" in chosen else "asked"
    return settings.model_copy(update={"port": port or free_port(set()), "load": load})


def page_of(settings: ServeSettings) -> str:
    """The address of the page, for a browser on this machine.

    >>> page_of(ServeSettings(host="::1", port=80))
    'http://[::1]:80/'
    """
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    return f"http://[{host}]:{settings.port}/" if ":" in host else f"http://{host}:{settings.port}/"


def _announce(endpoints: Endpoints, children: Children, settings: Settings, page: str) -> None:
    log.info("Kafka %s, Neo4j %s", endpoints.kafka_bootstrap, endpoints.neo4j_uri)
    for user, service, address in (
        (KAFKA_USER, "kafka", settings.kafka_bootstrap), (NEO4J_USER, "neo4j", settings.neo4j_uri),
    ):  # fmt: skip
        if not address:
            path = password_file(settings.state_dir / service)
            log.info("%s asks for a password: user %s, password in %s", service, user, path)
    for child in children.all:
        what = "" if child.name == PROMETHEUS else "metrics"
        log.info("%s: http://%s:%d/%s, log %s", child.name, settings.bind, child.metrics_port, what, child.log)
    if page:
        log.info("the page of the system: %s", page)
    log.info("up; Ctrl-C stops it, `sx9 status` in another terminal shows its state")


def _follow(endpoints: Endpoints, children: Children) -> None:
    """Log the decisions and restart what has exited, Kafka and Neo4j too, until interrupted."""
    reader = consumer(endpoints.kafka_bootstrap)
    try:
        follower = DecisionFollower(reader)
        while True:
            try:
                for decision in follower.poll(int(RESTART_INTERVAL_S * 1000)):
                    log.info("%s", describe(decision))
            except RetryLater as error:
                log.warning("%s", error)
                time.sleep(RESTART_INTERVAL_S)
            for message in children.restart_exited():
                log.warning("%s", message)
    finally:
        reader.close()
