"""`python -m benchmarks.workers`: events per second of one, two and four workers of the journal role, live.

    N workers, idle ──> events in one transaction, which nobody sees ──> commit ──> all examples in the journals

The workers share the partitions of the topics as Kafka assigns them. Publishing is not measured, and takes no
processor time from them, because the events are there when the transaction ends. Workers that fill all cores can't
be faster together than these, less what the broker needs. With `--share` each gets only a part of a core, as if the
machine had more of them: it is stopped and continued many times a second.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
from kafka import KafkaConsumer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.events import read_feed, write_feed
from benchmarks.report import processor
from benchmarks.stage import Stage, ends_of, wait_until
from schemas.encoding import encode_event
from schemas.events import Event
from schemas.journal import Source
from schemas.models import MODELS
from schemas.topics import JOURNAL, topic_of
from streams.app.journal_sink import JOURNALED
from streams.core.projections.base import project_all
from streams.settings import load_settings
from transport.kafka import consumer, producer

WORKERS = (1, 2, 4)
WARM_EVENTS = 2_000
TRANSACTION_TIMEOUT_MS = 600_000
PERIOD_S = 0.05
"""How often a throttled worker is stopped, seconds."""


def main() -> None:
    """Measure each number of workers in turn, and print and write the rates."""
    arguments = _parse()
    measured: dict[int, list[Rate]] = {}
    load = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory(prefix="sx9-workers-") as folder,
        Progress(console=Console(stderr=True)) as bars,
    ):
        feed = Path(folder) / "feed.jsonl"
        write_feed(feed, load_settings())
        stage = Stage(Path(folder), arguments.events, arguments.repeat, Path(), feed, read_feed(feed), bars)
        for _, workers in itertools.product(range(arguments.repeat), WORKERS):  # the sides take turns
            measured.setdefault(workers, []).append(rate(stage, workers, arguments.share))
    best = {workers: max(found) for workers, found in measured.items()}
    table = Table("workers", "events/s", "of one worker", "cores busy")
    for workers, found in best.items():
        ratio = found.events_per_s / best[1].events_per_s
        table.add_row(str(workers), f"{found.events_per_s:,.0f}", f"{ratio:.2f}", f"{found.cores_busy:.2f}")
    Console(width=100).print(table)
    arguments.output.mkdir(parents=True, exist_ok=True)
    result = {
        "machine": processor(), "load_before": load, "events": arguments.events, "share": arguments.share,
        "measured": {workers: [each._asdict() for each in found] for workers, found in measured.items()},
    }  # fmt: skip
    (arguments.output / "workers.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


class Rate(NamedTuple):
    """Events per second, and how many cores of the machine were busy meanwhile, with all that ran on it."""

    events_per_s: float
    cores_busy: float


def rate(stage: Stage, workers: int, share: float) -> Rate:
    """From the end of the transaction until the journals have every example.

    Args:
        stage: Where the services run.
        workers: How many.
        share: The part of a core that each of them gets while it is measured, at most 1.
    """
    events = list(
        itertools.islice(stage.events_of(JOURNALED, WARM_EVENTS + stage.events), WARM_EVENTS + stage.events)
    )
    with contextlib.ExitStack() as stack:
        endpoints = stack.enter_context(stage.services(neo4j=False))
        reader = stack.enter_context(contextlib.closing(consumer(endpoints.kafka_bootstrap)))
        running = []
        for _ in range(workers):
            state_dir = str(stage.settings().state_dir)
            own = {"name": "journal", "state_dir": state_dir, "bootstrap": endpoints.kafka_bootstrap}
            running.append(stack.enter_context(stage.running("role", **own)))
            running[-1].wait_for_log("journal: live")
        journaled = JournalEnds(reader)
        commit(endpoints.kafka_bootstrap, events[:WARM_EVENTS])
        journaled.wait_for(events[:WARM_EVENTS])
        for one in running if share < 1 else ():
            stack.enter_context(throttled(one.pid, share))
        commit(endpoints.kafka_bootstrap, events[WARM_EVENTS:])
        began_s = time.monotonic()
        psutil.cpu_percent()
        journaled.wait_for(events[WARM_EVENTS:])
        busy = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
        return Rate(stage.events / (time.monotonic() - began_s), busy)


@contextlib.contextmanager
def throttled(pid: int, share: float) -> Iterator[None]:
    """Let a process run only for a share of the time, while the block lasts."""
    process, ended = psutil.Process(pid), threading.Event()

    def hold() -> None:
        while not ended.wait(share * PERIOD_S):
            process.suspend()
            ended.wait((1 - share) * PERIOD_S)
            process.resume()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class JournalEnds:
    """How many records the journals have, of which each example is one.

    Committed offsets would not do: the end of a topic lies after the marker of the last transaction, which no
    worker gets.
    """

    def __init__(self, reader: KafkaConsumer) -> None:
        self._reader = reader
        self._expected = self._records()

    def wait_for(self, events: Sequence[Event]) -> None:
        """Wait until the journals have the examples of further events."""
        source = Source("", 0, 0)
        self._expected += sum(len(project_all(event, source, 0, MODELS)) for event in events)
        wait_until(lambda: self._records() >= self._expected, "all examples in the journals", every_s=0.1)

    def _records(self) -> int:
        return sum(ends_of(self._reader, [JOURNAL]).values())


def commit(bootstrap: str, events: list[Event]) -> None:
    """Publish events in one transaction."""
    own = {"transactional_id": f"bench-{time.monotonic_ns()}", "transaction_timeout_ms": TRANSACTION_TIMEOUT_MS}
    with contextlib.closing(producer(bootstrap, **own)) as writer:
        writer.init_transactions()
        writer.begin_transaction()
        for event in events:
            writer.send(topic_of(event).name, key=event.id.encode(), value=encode_event(event).value)
        writer.commit_transaction()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.workers", description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=60_000, help="events of a run")
    parser.add_argument("--repeat", type=int, default=2, help="runs of each; the best one counts")
    parser.add_argument("--share", type=float, default=1.0, help="part of a core that each worker gets")
    parser.add_argument(
        "--output", type=Path, default=load_settings().output_dir / "benchmarks", help="folder of workers.json"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
