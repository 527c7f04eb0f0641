"""The whole system on one machine: Kafka, Neo4j, the app's roles, a trainer per model, the fetchers.

    sx9 up ──> Kafka, Neo4j (streams.services)
           └─> children: `sx9 run journal | graph | fold | train --model ... | fetch`      (children.py)

Everything ends with it: at Ctrl-C, at SIGTERM, and when it is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from schemas.errors import RetryLater
from schemas.models import MODELS
from streams.app.wiring import ROLES
from streams.local.machine import free_port
from streams.local.services import Endpoints, services
from streams.settings import Settings
from sx9_ml_models.decisions import DecisionFollower, describe
from sx9_ml_models.processes import Child, Children, running
from transport.files import write_atomically
from transport.kafka import consumer
from transport.topics import create_topics

log = logging.getLogger(__name__)

LOCK_PATIENCE_S = 40.0
"""The children of one that was killed need a moment to end."""
MEND_EVERY_S = 1.0
TRAIN = "train"
"""The role of which there is a process for each model."""


@contextlib.contextmanager
def only_one(state_dir: Path) -> Iterator[int]:
    """Hold the lock of a state folder; its file descriptor is handed to the children, who hold it too.

    Raises:
        RetryLater: Another one runs in this folder.
    """
    path = state_dir / "run" / "up.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        _take(descriptor, path)
        yield descriptor
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = path.read_text().strip()
            if owner and psutil.pid_exists(int(owner)):
                raise RetryLater(
                    f"it runs already here, as process {owner}: see `sx9 status`, stop it, or choose another "
                    "folder with --state-dir"
                ) from None
            if time.monotonic() > deadline:
                raise RetryLater(f"processes of an earlier start still hold {path}: stop them, or wait") from None
            time.sleep(0.2)
        else:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return


def system(settings: Settings, *, fetch: bool, env: Mapping[str, str], lock: int) -> Children:
    """The children of a system, not started yet, with a port for the metrics of each.

    Args:
        fetch: Whether the feeds are fetched.
        env: What the children's environment has beside ours.
        lock: A file descriptor that they keep open.
    """
    commands = {name: ["run", name] for name in ROLES}
    commands |= {f"{TRAIN}-{model}": ["run", TRAIN, "--model", model] for model in MODELS}
    commands |= {"fetch": ["run", "fetch"]} if fetch else {}
    taken: set[int] = set()
    children = []
    for index, (name, command) in enumerate(commands.items()):
        port = settings.metrics_port + index if settings.metrics_port else free_port(taken)
        taken.add(port)
        variable = "SX9_TRAINER_METRICS_PORT" if TRAIN in command else "SX9_METRICS_PORT"
        log_file = settings.logs_dir / f"{name}.log"
        children.append(Child(name, command, log_file, port, {**env, variable: str(port)}, lock))
    listed = [{"name": c.name, "metrics_port": c.metrics_port, "log": str(c.log)} for c in children]
    write_atomically(settings.state_dir / "run" / "up.json", json.dumps(listed, indent=2).encode())
    return Children(children)


def up(settings: Settings) -> None:
    """Run the system until stopped.

    Raises:
        RetryLater, BadConfiguration: Kafka or Neo4j can't be started or used; it runs already.
    """
    with only_one(settings.state_dir) as lock, services(settings) as endpoints:
        create_topics(endpoints.kafka_bootstrap, settings.replication_factor)
        children = system(settings, fetch=settings.fetch_interval_s > 0, env={}, lock=lock)
        with running(children):
            _announce(endpoints, children, settings.bind)
            _watch(endpoints, children)


def _announce(endpoints: Endpoints, children: Children, bind: str) -> None:
    log.info("Kafka %s, Neo4j %s", endpoints.kafka_bootstrap, endpoints.neo4j_uri)
    for child in children.all:
        log.info("%s: http://%s:%d/metrics, log %s", child.name, bind, child.metrics_port, child.log)
    log.info("up; Ctrl-C stops it, `sx9 status` in another terminal looks at it")


def _watch(endpoints: Endpoints, children: Children) -> None:
    """Say what is decided, and start again what ended, until interrupted."""
    reader = consumer(endpoints.kafka_bootstrap)
    try:
        follower = DecisionFollower(reader)
        while True:
            try:
                for decision in follower.poll(int(MEND_EVERY_S * 1000)):
                    log.info("%s", describe(decision))
            except RetryLater as error:
                log.warning("%s", error)
                time.sleep(MEND_EVERY_S)
            for news in children.mend():
                log.warning("%s", news)
    finally:
        reader.close()
