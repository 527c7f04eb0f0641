"""Three Kafka brokers that are controllers too: three replicas of everything, two of which must be in sync."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from streams.local import process
from streams.local.kafka import LocalKafka, new_cluster_id
from streams.local.machine import LOOPBACK, free_port
from streams.local.process import Started
from streams.local.state import Folders

NODES = (1, 2, 3)
HEAP_MB = 128
START_TIMEOUT_S = 500.0


class Cluster:
    """The running brokers, by their node ids."""

    def __init__(self, root: Path, started: dict[int, Started]) -> None:
        self._root = root
        self._started = started

    @property
    def bootstrap(self) -> str:
        """`host:port,host:port,host:port`."""
        return ",".join(f"{LOOPBACK}:{one.port}" for _, one in sorted(self._started.items()))

    def kill(self, node: int) -> None:
        """Send SIGKILL to a broker."""
        state = json.loads(_folders(self._root, node).run("kafka", "json").read_text())
        os.kill(state["child"], signal.SIGKILL)
        watchdog = self._started[node].watchdog
        assert watchdog is not None
        watchdog.wait()

    def start(self, node: int) -> None:
        """Start a broker again that was killed, on its data."""
        self._started[node].relaunch()


@contextlib.contextmanager
def three_brokers(root: Path, cache: Path) -> Iterator[Cluster]:
    """Three brokers while the block lasts.

    Args:
        root: An empty folder for their data.
        cache: Folder with the jars.
    """
    cluster_id = new_cluster_id()
    ports: dict[int, int] = {}
    for node in NODES:
        ports[node] = free_port(set(ports.values()))
    started: dict[int, Started] = {}
    cancelled = threading.Event()

    def start(node: int) -> None:
        folders = Folders(_folders(root, node).state, cache)
        service = LocalKafka(
            folders.state / "kafka",
            0,
            HEAP_MB,
            more=_settings(node, ports),
            cluster_id=cluster_id,
            has_password=False,
        )
        started[node] = process.start(service, folders, None, START_TIMEOUT_S, None, cancelled)

    try:
        with ThreadPoolExecutor(len(NODES)) as pool:  # none is ready before two controllers are there
            for _ in pool.map(start, NODES):
                pass
        yield Cluster(root, started)
    finally:
        cancelled.set()
        process.stop(list(started.values()))


def _folders(root: Path, node: int) -> Folders:
    return Folders(root / f"node-{node}", root)


def _settings(node: int, controllers: dict[int, int]) -> dict[str, str]:
    """What makes a broker one of three."""
    return {
        "node.id": str(node),
        "controller.quorum.voters": ",".join(f"{n}@{LOOPBACK}:{port}" for n, port in controllers.items()),
        "listeners": f"CLIENTS://{{broker}},CONTROLLER://{LOOPBACK}:{controllers[node]}",
        "advertised.listeners": "CLIENTS://{broker}",
        "listener.security.protocol.map": "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "CLIENTS",
        "offsets.topic.replication.factor": "3",
        "transaction.state.log.replication.factor": "3",
        "transaction.state.log.min.isr": "2",
        "default.replication.factor": "3",
        "min.insync.replicas": "2",
        "replica.lag.time.max.ms": "10000",
        "broker.session.timeout.ms": "6000",
    }
