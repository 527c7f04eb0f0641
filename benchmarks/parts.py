"""The four parts of the ingest benchmark. Each adds its rates and bars to the report."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from kafka import KafkaConsumer

from benchmarks.report import Bar, Memory, Rate, Report
from benchmarks.sides import MODEL
from benchmarks.stage import (
    Process,
    Stage,
    count_graph,
    ends_of,
    first_after,
    wait_for_commits,
    wait_until,
    wipe,
)
from schemas.codec import encode
from schemas.events import Event
from schemas.journal import Source
from schemas.topics import (
    ENTITIES,
    EVENT_TOPICS,
    JOURNAL,
    RELATIONSHIPS,
    TECHNIQUES,
    TOPICS,
    partition_of,
    topic_of,
)
from streams.app.journal_sink import JOURNALED, JournalSink
from streams.app.sink import ConsumedMessage
from streams.app.wiring import ROLES, Role
from streams.core.projections.base import project
from streams.local.services import Endpoints
from transport.admin import admin_client
from transport.kafka import RecordProducer, consumer, end_offset, producer, read_range
from transport.topics import TopicIds

OURS, BASE, QUIX, DRIVER = "ours", "base", "quix", "driver"
WARM_UP = 1_000
LIVE_EVENTS = 20_000
FEW = 10
"""Memory is first measured after this fraction (1 / FEW) of the events."""
BATCHES = (500, 1_000, 2_000, 5_000)
QUIX_TUNINGS = {
    "defaults": {"every": 0, "chunk": 10_000},
    "commits of 10,000, 1,000 rows per statement": {"every": 10_000, "chunk": 1_000},
    "commits of 20,000, 2,000 rows per statement": {"every": 20_000, "chunk": 2_000},
}


class Side(NamedTuple):
    """One side of a part. `run` returns messages per second; only the fastest side of a family is repeated."""

    family: str
    name: str
    run: Callable[[], float]


def live(stage: Stage, report: Report) -> None:
    """Topic to journal through the Faust app, against a Faust agent that does nothing."""
    best = _measure(stage, report, "live, topic -> journal", min(stage.events, LIVE_EVENTS), [
        Side(OURS, "journal role", lambda: _journal_role(stage)),
        Side(BASE, "no-op Faust agent", lambda: _noop(stage, "each")),
        Side(BASE, "no-op Faust agent, in batches", lambda: _noop(stage, "batches")),
    ])  # fmt: skip
    report.bars.append(Bar("live: journal role / no-op Faust agent", best[OURS] / best[BASE], 0.6))


def _journal_role(stage: Stage) -> float:
    warm, events = _live_events(stage)
    with stage.services(neo4j=False) as endpoints, _reader(endpoints) as reader:
        with _role(stage, "journal", endpoints) as role:
            role.wait_for_log("journal: live")
            expected = _journal_end(reader)  # the journal starts with the rules
            for part in (warm, events):
                before = ends_of(reader, JOURNALED)
                stage.publish(endpoints.kafka_bootstrap, iter(part), len(part), "live: publishing")
                expected += sum(_is_example(event) for event in part)
                wait_until(partial(_journal_reaches, reader, expected), "all examples in the journal")
        last = [m for messages in read_range(reader, *_JOURNAL, expected - 1, expected) for m in messages][-1]
        return len(events) / (int(last.timestamp) - first_after(reader, before)) * 1000


def _noop(stage: Stage, kind: str) -> float:
    warm, events = _live_events(stage)
    milestones = [len(warm), len(warm) + len(events)]
    with stage.services(neo4j=False) as endpoints, _reader(endpoints) as reader:
        bootstrap, state_dir = endpoints.kafka_bootstrap, str(stage.settings().state_dir)
        with stage.running(
            "noop", kind=kind, milestones=milestones, state_dir=state_dir, bootstrap=bootstrap
        ) as agent:
            stage.publish(bootstrap, iter(warm), len(warm), "live: publishing")
            agent.next_result()
            before = ends_of(reader, JOURNALED)
            stage.publish(bootstrap, iter(events), len(events), "live: publishing")
            return len(events) / (float(agent.next_result()["at_ms"]) - first_after(reader, before)) * 1000


def _live_events(stage: Stage) -> tuple[list[Event], list[Event]]:
    number = min(stage.events, LIVE_EVENTS)
    events = stage.events_of(JOURNALED, number)
    return list(itertools.islice(events, WARM_UP)), list(itertools.islice(events, number))


def graph(stage: Stage, report: Report) -> None:
    """A backlog into the graph, against Quix Streams and the bare driver."""
    with stage.services(neo4j=True) as endpoints:
        events = stage.events_of(EVENT_TOPICS, stage.events)
        stage.publish(endpoints.kafka_bootstrap, events, stage.events, "graph: publishing the backlog")
        _graph_once(stage, endpoints, "driver", batch=1_000)  # warms up the database for all sides
        sides = [Side(OURS, "graph role, bulk", partial(_graph_once, stage, endpoints, "graph"))]
        for name, tuning in QUIX_TUNINGS.items():
            run = partial(_graph_once, stage, endpoints, "quix", **tuning)
            sides.append(Side(QUIX, f"Quix Streams, {name}", run))
        for batch in BATCHES:
            run = partial(_graph_once, stage, endpoints, "driver", batch=batch)
            sides.append(Side(DRIVER, f"bare driver, batches of {batch:,}", run))
        best = _measure(stage, report, "backlog -> graph", stage.events, sides)
    report.bars.append(Bar("graph: role in bulk / Quix Streams Neo4jSink", best[OURS] / best[QUIX], 1.0))
    report.bars.append(Bar("graph: role in bulk / bare neo4j driver", best[OURS] / best[DRIVER], 0.5))


def _graph_once(stage: Stage, endpoints: Endpoints, side: str, **arguments: object) -> float:
    """Run one side on an empty graph; the graph must be as large as that of the other sides. Events per second."""
    bootstrap, neo4j = endpoints.kafka_bootstrap, endpoints.neo4j_uri
    wipe(neo4j)
    if side == "graph":
        result = stage.side("graph", state_dir=str(stage.settings().state_dir), bootstrap=bootstrap, neo4j=neo4j)
    elif side == "driver":
        result = stage.side("driver", feed=str(stage.feed_file), events=stage.events, neo4j=neo4j, **arguments)
    else:
        topics = [topic.name for topic in (TECHNIQUES, ENTITIES, RELATIONSHIPS)]
        group = f"quix-{next(stage.numbers)}"
        result = stage.quix_side(
            bootstrap=bootstrap, neo4j=neo4j, group=group, topics=topics, events=stage.events, **arguments
        )
    stage.must_agree("the graph", count_graph(neo4j))
    return _rate(result)


def fold(stage: Stage, report: Report) -> None:
    """A journal through decoder and fold, against a kafka-python consumer that does not decode."""
    with stage.services(neo4j=False) as endpoints:
        _fill_journal(stage, endpoints.kafka_bootstrap)

        def run(side: str) -> float:
            result = stage.side(side, bootstrap=endpoints.kafka_bootstrap)
            stage.must_agree("the length of the journal", result["events"])
            return _rate(result)

        best = _measure(stage, report, "journal -> fold", stage.events, [
            Side(OURS, "bulk reader, decoder and fold", lambda: run("fold")),
            Side(BASE, "kafka-python, without decoding", lambda: run("bare")),
        ])  # fmt: skip
    report.bars.append(Bar("fold: bulk path / bare kafka-python", best[OURS] / best[BASE], 0.2))


def _fill_journal(stage: Stage, bootstrap: str) -> None:
    """Write as many examples to the journal as the run has events, with the sink of the journal role."""
    writer, admin = producer(bootstrap), admin_client(bootstrap)
    sink = JournalSink(RecordProducer(writer), {}, dict, TopicIds(admin, TOPICS))
    examples = (event for event in stage.events_of(JOURNALED, stage.events) if _is_example(event))
    numbered = enumerate(itertools.islice(examples, stage.events))
    with stage.task("fold: writing the journal", stage.events) as advance:
        while part := list(itertools.islice(numbered, 2_000)):
            sink.write(
                [ConsumedMessage(topic_of(event).name, 0, offset, encode(event), 0) for offset, event in part]
            )
            advance(len(part))
    writer.close()
    admin.close()


def memory(stage: Stage, report: Report) -> None:
    """Resident memory of the three roles, live, after a tenth of the events and after all."""
    few, many = max(stage.events // FEW, 1), stage.events
    with contextlib.ExitStack() as stack:
        endpoints = stack.enter_context(stage.services(neo4j=True))
        reader = stack.enter_context(_reader(endpoints))
        roles = {name: stack.enter_context(_role(stage, name, endpoints)) for name in ROLES}
        for name, role in roles.items():
            role.wait_for_log(f"{name}: live")
        events = stage.events_of(EVENT_TOPICS, stage.events)
        measured: list[dict[str, float]] = []
        for number in (few, many - few):
            stage.publish(endpoints.kafka_bootstrap, events, number, "memory: publishing")
            with stage.task(f"memory: the roles process {number:,} events"):
                wait_for_commits(endpoints.kafka_bootstrap, reader, ROLES)
            measured.append({name: role.rss_mb() for name, role in roles.items()})
    report.memory += [Memory(name, few, measured[0][name], many, measured[1][name]) for name in ROLES]
    for row in report.memory:
        report.bars.append(Bar(f"memory: growth of the {row.role} role", row.growth, 50, " MB", at_most=True))


def _measure(stage: Stage, report: Report, part: str, messages: int, sides: Sequence[Side]) -> Mapping[str, float]:
    """Run the sides in turns and add their rates to the report. Returns the best rate of each family."""
    runs: dict[Side, list[float]] = {side: [] for side in sides}
    for round_ in range(stage.repeat):
        for side in runs if round_ == 0 else _fastest(runs).values():
            with stage.task(f"{part}: {side.name} ({round_ + 1} of {stage.repeat})"):
                runs[side].append(side.run())
    report.rates += [Rate(part, side.name, side.family == OURS, messages, rates) for side, rates in runs.items()]
    return {family: max(runs[side]) for family, side in _fastest(runs).items()}


def _rate(result: Mapping[str, Any]) -> float:
    return float(result["events"] / result["seconds"])


def _fastest(runs: Mapping[Side, list[float]]) -> dict[str, Side]:
    ascending = sorted(runs, key=lambda side: max(runs[side]))
    return {side.family: side for side in ascending}


_JOURNAL = (JOURNAL.name, partition_of(MODEL))


def _journal_reaches(reader: KafkaConsumer, end: int) -> bool:
    return _journal_end(reader) >= end


def _journal_end(reader: KafkaConsumer) -> int:
    return end_offset(reader, *_JOURNAL)


@contextlib.contextmanager
def _reader(endpoints: Endpoints) -> Iterator[KafkaConsumer]:
    reader = consumer(endpoints.kafka_bootstrap)
    try:
        yield reader
    finally:
        reader.close()


def _role(stage: Stage, name: Role, endpoints: Endpoints) -> contextlib.AbstractContextManager[Process]:
    state_dir = str(stage.settings().state_dir)
    return stage.running(
        "role", name=name, state_dir=state_dir, bootstrap=endpoints.kafka_bootstrap, neo4j=endpoints.neo4j_uri
    )


def _is_example(event: Event) -> bool:
    return project(MODEL, event, Source("", 0, 0)) is not None
