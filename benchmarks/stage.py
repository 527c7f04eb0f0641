"""The environment of an ingest benchmark: services, processes of the sides, queries to Kafka and Neo4j."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from kafka import KafkaConsumer, TopicPartition
from rich.progress import Progress

from benchmarks.events import copies, sample, send
from schemas.events import Event
from schemas.topics import Topic
from streams.app.graph_sink import create_constraints
from streams.app.wiring import TOPICS_OF, Role, group_of
from streams.local.services import Endpoints, environment_of, services
from streams.settings import Settings, load_settings
from transport.admin import admin_client, committed_offsets
from transport.kafka import end_offset, read_ranges
from transport.neo4j import neo4j_driver
from transport.topics import create_topics, partitions_of

TIMEOUT_S = 900.0
"""Longest wait for a result or a condition, seconds."""
HERE = Path(__file__).parent


@dataclass
class Stage:
    """One benchmark run.

    Attributes:
        folder: For temporary files.
        events: Number of events.
        repeat: Runs of each side.
        quix: Python interpreter with Quix Streams.
        feed_file, feed: The events of the feed, as a file and in memory.
        progress: Where progress is shown.
        numbers: Makes names unique.
        agreed: Name -> result that all sides must have; see `must_agree`.
        environment: Variables with which a side finds the services and their passwords.
    """

    folder: Path
    events: int
    repeat: int
    quix: Path
    feed_file: Path
    feed: list[Event]
    progress: Progress
    numbers: Iterator[int] = field(default_factory=itertools.count)
    agreed: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict, repr=False)

    def settings(self) -> Settings:
        """Settings with a new state folder."""
        return load_settings(state_dir=self.folder / f"state{next(self.numbers)}", tick_interval_s=0)

    @contextlib.contextmanager
    def services(self, *, neo4j: bool) -> Iterator[Endpoints]:
        """A Kafka with empty topics, and with `neo4j` an empty Neo4j; both stop at the end of the block."""
        settings = self.settings()
        with services(settings, neo4j=neo4j, progress=self.progress) as endpoints:
            create_topics(endpoints.kafka_bootstrap)
            if neo4j:
                with neo4j_driver(endpoints.neo4j_uri) as driver:
                    create_constraints(driver)
            self.environment = environment_of(endpoints.kafka_bootstrap, endpoints.neo4j_uri)
            yield endpoints

    def events_of(self, topics: Sequence[Topic], number: int, skip: int = 0) -> Iterator[Event]:
        """Events of some topics, without end; see `sample` for `number` and `copies` for `skip`."""
        return copies(sample(self.feed, number), topics, skip)

    def publish(self, bootstrap: str, events: Iterator[Event], number: int, title: str) -> None:
        """Publish the first `number` events, and show the progress."""
        with self.task(title, number) as advance:
            send(bootstrap, events, number, advance)

    @contextlib.contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Show a line of progress while the block runs; yields a function that advances it."""
        task = self.progress.add_task(title, total=total)
        try:
            yield lambda steps: self.progress.advance(task, steps)
        finally:
            self.progress.remove_task(task)

    def must_agree(self, name: str, value: Any) -> None:
        """Check that a result equals that of the sides before.

        Raises:
            RuntimeError: It does not: the sides did different work.
        """
        expected = self.agreed.setdefault(name, value)
        if value != expected:
            raise RuntimeError(f"the sides differ in {name}: {value} and {expected}")

    def side(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """Run a side in its own process and return its result."""
        with self.process([sys.executable, "-m", "benchmarks.sides", name, json.dumps(arguments)]) as process:
            return process.next_result()

    def quix_side(self, **arguments: Any) -> dict[str, Any]:
        """Run the side of Quix Streams and return its result."""
        with self.process([str(self.quix), str(HERE / "quix.py"), json.dumps(arguments)]) as process:
            return process.next_result()

    @contextlib.contextmanager
    def running(self, name: str, /, **arguments: Any) -> Iterator[Process]:
        """Run a side in its own process until the block ends."""
        with self.process([sys.executable, "-m", "benchmarks.sides", name, json.dumps(arguments)]) as process:
            yield process

    @contextlib.contextmanager
    def process(self, command: list[str]) -> Iterator[Process]:
        """Run a child process until the block ends. Its log is a file in the folder."""
        log = self.folder / f"side{next(self.numbers)}.log"
        with log.open("wb") as out:
            env = os.environ | self.environment
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=out, cwd=HERE.parent, env=env)
        try:
            yield Process(child, log)
        finally:
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


class Process:
    """A side that is running.

    Args:
        child: Its process, with the standard output as a pipe.
        log: The file that it logs to.
    """

    def __init__(self, child: subprocess.Popen[bytes], log: Path) -> None:
        self._child = child
        self._log = log
        self._lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def next_result(self) -> dict[str, Any]:
        """Wait for the next result that it prints.

        Raises:
            RuntimeError: The process ended; the message has the end of its log.
        """
        line = self._lines.get(timeout=TIMEOUT_S)
        if not line:
            raise RuntimeError(f"{self._child.args!r} ended with {self._child.wait()}:\n{self.logged()[-4_000:]}")
        result: dict[str, Any] = json.loads(line)
        return result

    def wait_for_log(self, text: str) -> None:
        """Wait until its log contains a text."""

        def is_logged() -> bool:
            if self._child.poll() is not None:
                raise RuntimeError(f"{self._child.args!r} ended:\n{self.logged()[-4_000:]}")
            return text in self.logged()

        wait_until(is_logged, f"{text!r} in the log of {self._child.args!r}")

    def logged(self) -> str:
        """Its log up to now."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def rss_mb(self) -> float:
        """Its resident memory now, MB."""
        return float(psutil.Process(self.pid).memory_info().rss) / 1024 / 1024

    def _listen(self) -> None:
        assert self._child.stdout
        for line in self._child.stdout:
            _, brace, rest = line.partition(b"{")  # Faust may have written a terminal escape code before it
            if brace:
                self._lines.put(brace + rest)
        self._lines.put(b"")


def wait_until(condition: Callable[[], bool], name: str, every_s: float = 0.1) -> None:
    """Poll until a condition holds.

    Args:
        condition: Polled every `every_s` seconds.
        name: Of the condition, for the error message.
        every_s: Seconds between two polls.

    Raises:
        RuntimeError: It does not hold within `TIMEOUT_S`.
    """
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"timeout after {TIMEOUT_S:.0f} s: {name}")
        time.sleep(every_s)


def first_after(reader: KafkaConsumer, ends: dict[TopicPartition, int]) -> int:
    """Broker timestamp of the earliest message at or after some offsets, ms.

    Args:
        reader: A consumer without a group.
        ends: Partition -> offset; at least one partition has a message there.
    """
    ranges = {partition: (end, end + 1) for partition, end in ends.items() if end_offset(reader, *partition) > end}
    return min(int(message.timestamp) for messages in read_ranges(reader, ranges) for message in messages)


def ends_of(reader: KafkaConsumer, topics: Sequence[Topic]) -> dict[TopicPartition, int]:
    """Partition of the topics -> the offset that its next message will get."""
    return {partition: end_offset(reader, *partition) for partition in partitions_of(reader, topics)}


def wait_for_commits(bootstrap: str, reader: KafkaConsumer, roles: Sequence[Role], every_s: float = 1.0) -> None:
    """Wait until every role has committed all messages of its topics."""
    admin = admin_client(bootstrap)

    def is_committed() -> bool:
        for role in roles:
            committed = committed_offsets(admin, group_of(role))
            ends = ends_of(reader, TOPICS_OF[role])
            if any(committed.get(partition, 0) < end for partition, end in ends.items()):
                return False
        return True

    try:
        wait_until(is_committed, f"commits of {', '.join(roles)}", every_s=every_s)
    finally:
        admin.close()


def wipe(neo4j: str) -> None:
    """Delete all nodes and edges; the constraints stay."""
    with neo4j_driver(neo4j) as driver, driver.session() as session:
        for pattern in ("()-[x]->()", "(x)"):
            session.run(f"MATCH {pattern} CALL (x) {{ DELETE x }} IN TRANSACTIONS OF 5000 ROWS").consume()


def count_graph(neo4j: str) -> tuple[int, int]:
    """Number of entities and number of edges in the graph."""
    with neo4j_driver(neo4j) as driver:
        nodes = driver.execute_query("MATCH (n:Entity) RETURN count(n) AS n").records[0]["n"]
        edges = driver.execute_query("MATCH ()-[r]->() RETURN count(r) AS n").records[0]["n"]
    return nodes, edges
