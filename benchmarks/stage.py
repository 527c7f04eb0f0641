"""What the measurements stand on: services of their own, processes, and questions to Kafka and Neo4j."""

from __future__ import annotations

import contextlib
import itertools
import json
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
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from neo4j import GraphDatabase
from rich.progress import Progress

from benchmarks.events import copies, sample, send
from schemas.events import Event
from schemas.topics import Topic
from streams.app.graph_sink import create_constraints
from streams.app.wiring import TOPICS_OF, Role, group_of
from streams.local.services import Endpoints, services
from streams.settings import Settings, load_settings
from transport.admin import committed_offsets
from transport.kafka import end_offset, read_ranges
from transport.topics import create_topics, partitions_of

PATIENCE_S = 900.0
HERE = Path(__file__).parent


@dataclass
class Stage:
    """One benchmark run: where it works, what it was told, and how far it is."""

    folder: Path
    events: int
    repeat: int
    quix: Path
    feed_file: Path
    feed: list[Event]
    progress: Progress
    numbers: Iterator[int] = field(default_factory=itertools.count)
    agreed: dict[str, Any] = field(default_factory=dict)

    def settings(self) -> Settings:
        """Settings with a state folder that nothing has used."""
        return load_settings(state_dir=self.folder / f"state{next(self.numbers)}", tick_interval_s=0)

    @contextlib.contextmanager
    def services(self, *, neo4j: bool) -> Iterator[Endpoints]:
        """A Kafka with empty topics, and an empty Neo4j where it is wanted."""
        settings = self.settings()
        with services(settings, neo4j=neo4j, progress=self.progress) as endpoints:
            create_topics(endpoints.kafka_bootstrap)
            if neo4j:
                with GraphDatabase.driver(endpoints.neo4j_uri) as driver:
                    create_constraints(driver)
            yield endpoints

    def events_of(self, topics: Sequence[Topic], number: int, skip: int = 0) -> Iterator[Event]:
        """Events of these topics, thinned as `number` needs it, and without end."""
        return copies(sample(self.feed, number), topics, skip)

    def publish(self, bootstrap: str, events: Iterator[Event], number: int, doing: str) -> None:
        """Publish so many of the events, shown as progress."""
        with self.task(doing, number) as advance:
            send(bootstrap, events, number, advance)

    @contextlib.contextmanager
    def task(self, doing: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """A line of progress while the block runs; yields how to advance it."""
        task = self.progress.add_task(doing, total=total)
        try:
            yield lambda steps: self.progress.advance(task, steps)
        finally:
            self.progress.remove_task(task)

    def must_agree(self, what: str, found: Any) -> None:
        """Refuse to compare sides that did not do the same."""
        wanted = self.agreed.setdefault(what, found)
        if found != wanted:
            raise RuntimeError(f"sides differ in {what}: {found} and {wanted}")

    def side(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """Run a side in a process of its own, to its end."""
        with self.process([sys.executable, "-m", "benchmarks.sides", name, json.dumps(arguments)]) as process:
            return process.told()

    def quix_side(self, **arguments: Any) -> dict[str, Any]:
        """Run the side of Quix Streams, to its end."""
        with self.process([str(self.quix), str(HERE / "quix.py"), json.dumps(arguments)]) as process:
            return process.told()

    @contextlib.contextmanager
    def running(self, name: str, /, **arguments: Any) -> Iterator[Process]:
        """A side that runs until the block ends."""
        with self.process([sys.executable, "-m", "benchmarks.sides", name, json.dumps(arguments)]) as process:
            yield process

    @contextlib.contextmanager
    def process(self, command: list[str]) -> Iterator[Process]:
        """A child process; what it logs is in the folder, and shown if it fails."""
        log = self.folder / f"side{next(self.numbers)}.log"
        with log.open("wb") as out:
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=out, cwd=HERE.parent)
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
    """A side at work."""

    def __init__(self, child: subprocess.Popen[bytes], log: Path) -> None:
        self._child = child
        self._log = log
        self._lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def told(self) -> dict[str, Any]:
        """The next line that it tells."""
        line = self._lines.get(timeout=PATIENCE_S)
        if not line:
            raise RuntimeError(f"{self._child.args!r} ended with {self._child.wait()}:\n{self.logged()[-4_000:]}")
        return json.loads(line)

    def wait_for_log(self, words: str) -> None:
        """Wait until it has logged these words."""

        def logged() -> bool:
            if self._child.poll() is not None:
                raise RuntimeError(f"{self._child.args!r} ended:\n{self.logged()[-4_000:]}")
            return words in self.logged()

        wait_until(logged, f"{words!r} in the log of {self._child.args!r}")

    def logged(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def rss_mb(self) -> float:
        """Its resident memory now."""
        return psutil.Process(self._child.pid).memory_info().rss / 1024 / 1024

    def _listen(self) -> None:
        assert self._child.stdout
        for line in self._child.stdout:
            _, brace, rest = line.partition(b"{")  # Faust may have written a terminal code before it
            if brace:
                self._lines.put(brace + rest)
        self._lines.put(b"")


def wait_until(there: Callable[[], bool], what: str, every_s: float = 0.1) -> None:
    """Ask again and again until something is there."""
    deadline = time.monotonic() + PATIENCE_S
    while not there():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not there after {PATIENCE_S:.0f} s: {what}")
        time.sleep(every_s)


def first_after(reader: KafkaConsumer, ends: dict[TopicPartition, int]) -> int:
    """Broker's time of the earliest message at or after these offsets, ms."""
    spans = {partition: (end, end + 1) for partition, end in ends.items() if end_offset(reader, *partition) > end}
    return min(message.timestamp for messages in read_ranges(reader, spans) for message in messages)


def ends_of(reader: KafkaConsumer, topics: Sequence[Topic]) -> dict[TopicPartition, int]:
    """The offset that comes next, of every partition."""
    return {place: end_offset(reader, *place) for place in partitions_of(topics)}


def wait_for_commits(bootstrap: str, reader: KafkaConsumer, roles: Sequence[Role]) -> None:
    """Wait until every role has committed all that is on its topics."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)

    def done() -> bool:
        for role in roles:
            committed = committed_offsets(admin, group_of(role))
            ends = ends_of(reader, TOPICS_OF[role])
            if any(committed.get(place, 0) < end for place, end in ends.items()):
                return False
        return True

    try:
        wait_until(done, f"commits of {', '.join(roles)}", every_s=1.0)
    finally:
        admin.close()


def wipe(neo4j: str) -> None:
    """Delete everything from the graph; the constraints stay."""
    with GraphDatabase.driver(neo4j) as driver, driver.session() as session:
        for pattern in ("()-[x]->()", "(x)"):
            session.run(f"MATCH {pattern} CALL (x) {{ DELETE x }} IN TRANSACTIONS OF 5000 ROWS").consume()  # type: ignore[arg-type]


def counted(neo4j: str) -> tuple[int, int]:
    """Nodes and edges of the graph."""
    with GraphDatabase.driver(neo4j) as driver:
        nodes = driver.execute_query("MATCH (n:Entity) RETURN count(n) AS n").records[0]["n"]
        edges = driver.execute_query("MATCH ()-[r]->() RETURN count(r) AS n").records[0]["n"]
    return nodes, edges
