"""The sides of `benchmarks.ingest`, each in its own process.

The command line is `python -m benchmarks.sides NAME '{"argument": ...}'`. A side prints its results as lines of
JSON. Clients connect before the time is measured.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import faust
from kafka import TopicPartition
from neo4j import Driver

from benchmarks.events import copies, read_feed, sample
from schemas.topics import EVENT_TOPICS, JOURNAL, partition_of
from streams.app import graph_sink as graphing
from streams.app import wiring
from streams.app.catch_up import catch_up
from streams.app.journal_sink import JOURNALED
from streams.app.replay import fold_from
from streams.core.fold import State
from streams.core.graph_rows import batch_rows
from streams.local.services import Endpoints
from streams.settings import Settings, load_settings
from transport.kafka import consumer, end_offset, read_range
from transport.logins import use_kafka_login, use_neo4j_login
from transport.neo4j import neo4j_driver
from transport.topics import partitions_of

MODEL = "distilbert-mitre"


def print_result(**result: Any) -> None:
    """Send a result to the parent process: a line of JSON on the standard output."""
    print(json.dumps(result), flush=True)


def role(name: wiring.Role, state_dir: str, bootstrap: str, neo4j: str = "") -> None:
    """Run one of our roles as `sx9 up` does, until it is stopped."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    wiring.run_role(name, _settings(state_dir), Endpoints(bootstrap, neo4j, "", ""))


def noop(kind: str, state_dir: str, bootstrap: str, milestones: list[int]) -> None:
    """Run a Faust agent that does nothing, on the topics and with the app of the journal role.

    Args:
        kind: `each` takes events one by one, `batches` with `stream.take`.
        state_dir: A folder for Faust.
        bootstrap: host:port of Kafka.
        milestones: Numbers of events, ascending; the agent prints the time when it has received that many.
    """
    app = wiring.faust_app("journal", _settings(state_dir), bootstrap)
    channel = app.topic(
        *(topic.name for topic in JOURNALED), value_type=bytes, value_serializer="raw", key_serializer="raw"
    )
    app.agent(channel, name="noop")(_each(set(milestones)) if kind == "each" else _batches(milestones))
    faust.Worker(app, loglevel=None, override_logging=False, quiet=True).execute_from_commandline()


def _each(milestones: set[int]) -> Callable[[Any], Any]:
    async def agent(stream: Any) -> None:
        seen = 0
        async for _event in stream:
            seen += 1
            if seen in milestones:
                print_result(seen=seen, at_ms=time.time() * 1000)

    return agent


def _batches(milestones: list[int]) -> Callable[[Any], Any]:
    async def agent(stream: Any) -> None:
        seen, remaining = 0, list(milestones)
        async for events in stream.take(1_000, within=0.1):
            seen += len(events)
            while remaining and seen >= remaining[0]:
                print_result(seen=remaining.pop(0), at_ms=time.time() * 1000)

    return agent


def graph(state_dir: str, bootstrap: str, neo4j: str) -> None:
    """Write the events of the topics to the graph with the bulk path of our graph role."""
    with (
        wiring.clients(bootstrap) as kafka,
        wiring.sink_of("graph", _settings(state_dir), Endpoints(bootstrap, neo4j, "", ""), kafka) as sink,
    ):
        start = time.monotonic()
        ends = catch_up(sink, kafka.reader, partitions_of(kafka.reader, EVENT_TOPICS))
        print_result(events=sum(ends.values()), seconds=time.monotonic() - start, rss_mb=_peak_mb())


def driver(feed: str, events: int, neo4j: str, batch: int) -> None:
    """Write with the bare driver: the rows of all events are prepared in memory, grouped by label and type.

    Args:
        feed: A file of `write_feed`.
        events: Number of events.
        neo4j: URI of Neo4j.
        batch: Rows per transaction.
    """
    rows = list(_rows(feed, events))
    with neo4j_driver(neo4j) as bolt:
        bolt.verify_connectivity()
        start = time.monotonic()
        for statement, group in rows:
            for part in _parts(group, batch):
                _write(bolt, statement, part)
        print_result(events=events, seconds=time.monotonic() - start)


def _rows(feed: str, events: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    repeated = copies(sample(read_feed(Path(feed)), events), EVENT_TOPICS)
    merged = batch_rows((next(repeated), offset) for offset in range(events))
    for label, nodes in graphing._grouped(merged.nodes, lambda node: node.label):
        yield graphing._NODES % label, [graphing._node_row(node) for node in nodes]
    for kind, edges in graphing._grouped(merged.edges, lambda edge: edge.type):
        yield graphing._EDGES % kind, [graphing._edge_row(edge) for edge in edges]


def _parts(rows: list[Any], size: int) -> Iterable[list[Any]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _write(bolt: Driver, statement: str, rows: list[Any]) -> None:
    with bolt.session() as session:
        session.execute_write(lambda transaction: transaction.run(statement, rows=rows).consume())


def fold(bootstrap: str) -> None:
    """Read, decode and fold the journal with our bulk path."""
    reader = consumer(bootstrap)
    end = end_offset(reader, JOURNAL.name, partition_of(MODEL))
    outputs, start = 0, time.monotonic()
    for state, new_outputs in fold_from(reader, State(model=MODEL), end):
        assert state.next_offset <= end
        outputs += len(new_outputs)
    print_result(events=end, seconds=time.monotonic() - start, outputs=outputs, rss_mb=_peak_mb())


def bare(bootstrap: str) -> None:
    """Read the journal with kafka-python, without decoding."""
    reader = consumer(bootstrap)
    partition = TopicPartition(JOURNAL.name, partition_of(MODEL))
    end = end_offset(reader, *partition)
    start, seen = time.monotonic(), 0
    reader.assign([partition])
    reader.seek_to_beginning(partition)
    while seen < end:
        seen += sum(len(messages) for messages in reader.poll(timeout_ms=1_000).values())
    print_result(events=end, seconds=time.monotonic() - start)


def read(bootstrap: str) -> None:
    """Read the journal with our bulk reader, without decoding; `fold` adds decoding and folding to it."""
    reader = consumer(bootstrap)
    start, seen = time.monotonic(), 0
    for messages in read_range(reader, JOURNAL.name, partition_of(MODEL), 0):
        seen += len(messages)
    print_result(events=seen, seconds=time.monotonic() - start)


def _settings(state_dir: str) -> Settings:
    return load_settings(state_dir=Path(state_dir), tick_interval_s=0, metrics_port=0, web_port=0)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


SIDES: dict[str, Callable[..., None]] = {
    side.__name__: side for side in (role, noop, graph, driver, fold, bare, read)
}


def log_in() -> None:
    """Use the services that the environment names, with their passwords."""
    settings = load_settings()
    if settings.kafka_bootstrap:
        use_kafka_login(settings.kafka_bootstrap, settings.kafka_login)
    if settings.neo4j_uri:
        use_neo4j_login(settings.neo4j_uri, settings.neo4j_user, settings.neo4j_password.get_secret_value())


if __name__ == "__main__":
    log_in()
    SIDES[sys.argv[1]](**json.loads(sys.argv[2]))
