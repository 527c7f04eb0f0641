"""`python -m benchmarks.workers`: events per second of one, two and four workers of the journal role, live.

    N workers, idle ──> events in one transaction, so that nobody sees them ──> commit ──> all offsets committed

The workers share the partitions of the topics as Kafka assigns them. Publishing is not measured, and takes no
processor time from them, because the events are there when the transaction ends. Offsets are committed once a
second, so a run must take many seconds: raise --events on a faster machine. More workers than cores can't be faster
than as many as there are.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.events import read_feed, write_feed
from benchmarks.report import processor
from benchmarks.stage import Stage, wait_for_commits
from schemas.encoding import encode_event
from schemas.events import Event
from schemas.topics import topic_of
from streams.app.journal_sink import JOURNALED
from streams.settings import load_settings
from transport.kafka import consumer, producer

WORKERS = (1, 2, 4)
WARM_EVENTS = 2_000
TRANSACTION_TIMEOUT_MS = 600_000


def main() -> None:
    """Measure each number of workers in turn, and print and write the rates."""
    arguments = _parse()
    rates: dict[int, list[float]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="sx9-workers-") as folder,
        Progress(console=Console(stderr=True)) as bars,
    ):
        feed = Path(folder) / "feed.jsonl"
        write_feed(feed, load_settings())
        stage = Stage(Path(folder), arguments.events, arguments.repeat, Path(), feed, read_feed(feed), bars)
        for _, workers in itertools.product(range(arguments.repeat), WORKERS):  # the sides take turns
            rates.setdefault(workers, []).append(rate(stage, workers))
    best = {workers: max(found) for workers, found in rates.items()}
    table = Table("workers", "events/s", "of one worker")
    for workers, events_per_s in best.items():
        table.add_row(str(workers), f"{events_per_s:,.0f}", f"{events_per_s / best[1]:.2f}")
    Console(width=100).print(table)
    arguments.output.mkdir(parents=True, exist_ok=True)
    result = {"machine": processor(), "events": arguments.events, "rates": rates}
    (arguments.output / "workers.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def rate(stage: Stage, workers: int) -> float:
    """Events per second from the end of the transaction until every offset is committed."""
    events = list(
        itertools.islice(stage.events_of(JOURNALED, WARM_EVENTS + stage.events), WARM_EVENTS + stage.events)
    )
    with contextlib.ExitStack() as stack:
        endpoints = stack.enter_context(stage.services(neo4j=False))
        reader = stack.enter_context(contextlib.closing(consumer(endpoints.kafka_bootstrap)))
        for _ in range(workers):
            state_dir = str(stage.settings().state_dir)
            own = {"name": "journal", "state_dir": state_dir, "bootstrap": endpoints.kafka_bootstrap}
            stack.enter_context(stage.running("role", **own)).wait_for_log("journal: live")
        commit(endpoints.kafka_bootstrap, events[:WARM_EVENTS])
        wait_for_commits(endpoints.kafka_bootstrap, reader, ["journal"])
        commit(endpoints.kafka_bootstrap, events[WARM_EVENTS:])
        began_s = time.monotonic()
        wait_for_commits(endpoints.kafka_bootstrap, reader, ["journal"], every_s=0.1)
        return stage.events / (time.monotonic() - began_s)


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
    parser.add_argument(
        "--output", type=Path, default=load_settings().output_dir / "benchmarks", help="folder of workers.json"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
