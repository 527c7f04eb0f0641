"""Builds every client of a role and runs it: topics, bulk catch-up, then its Faust app until it is stopped.

journal   threat.*             ->  retrain.journal.v1
graph     threat.*             ->  Neo4j
fold      retrain.journal.v1   ->  retrain.windows.v1, retrain.triggers.v1
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import faust
from aiokafka.errors import KafkaError
from kafka import KafkaAdminClient, KafkaConsumer
from mode.supervisors import CrashingSupervisor
from prometheus_client import start_http_server

from schemas.journal import PolicyChange, Tick
from schemas.models import MODELS
from schemas.topics import EVENT_TOPICS, JOURNAL, Topic, partition_of
from streams import telemetry as metrics
from streams.app.agents import add_agent
from streams.app.catch_up import catch_up, committed_offsets, hand_over, places_of
from streams.app.fold_sink import FoldSink
from streams.app.graph_sink import GraphSink, create_constraints
from streams.app.journal_sink import JOURNALED, JournalSink
from streams.app.policy_file import load_policies
from streams.app.replay import state_now
from streams.app.sink import Sink
from streams.core.fold import State
from streams.local.services import Endpoints
from streams.settings import Settings
from transport.kafka import NO_DELIVERY_TIMEOUT_MS, RecordProducer, consumer, kafka_errors, producer
from transport.neo4j import driver as neo4j_driver
from transport.retry import retry
from transport.topics import create_topics

log = logging.getLogger(__name__)

Role = Literal["journal", "graph", "fold"]
ROLES: tuple[Role, ...] = ("journal", "graph", "fold")
TOPICS_OF: Mapping[Role, Sequence[Topic]] = {"journal": JOURNALED, "graph": EVENT_TOPICS, "fold": (JOURNAL,)}
LAG_EVERY_S = 5.0

SESSION_TIMEOUT_S = 10.0
"""A worker that was killed holds its partitions for so long (Faust's default is a minute)."""


def group_of(role: Role) -> str:
    """The consumer group of a role, which is also the id of its Faust app."""
    return f"sx9-{role}"


@dataclass(frozen=True)
class Clients:
    """The Kafka clients of a role; `reader` belongs to no group."""

    admin: KafkaAdminClient
    reader: KafkaConsumer
    outbox: RecordProducer


@contextlib.contextmanager
def clients(bootstrap: str) -> Iterator[Clients]:
    """Clients for as long as the block lasts.

    Raises:
        RetryLater: No broker answers.
    """
    with kafka_errors(f"connecting to {bootstrap}"):
        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    writer = producer(bootstrap, delivery_timeout_ms=NO_DELIVERY_TIMEOUT_MS)
    reader = consumer(bootstrap)
    try:
        yield Clients(admin, reader, RecordProducer(writer))
    finally:
        reader.close()
        writer.close(timeout=5)
        admin.close()


def run_role(role: Role, settings: Settings, endpoints: Endpoints) -> None:
    """Run one role until SIGTERM or SIGINT; what is unfinished then is done at the next start.

    Raises:
        RetryLater, BadConfiguration: Kafka or Neo4j can't be used.
    """
    signal.signal(signal.SIGTERM, _leave)
    try:
        _run(role, settings, endpoints)
    except Exception:
        if not _leaving.is_set():
            raise
        log.warning("%s: what SIGTERM interrupted ended in an error", role, exc_info=True)  # a driver's, half way


def _run(role: Role, settings: Settings, endpoints: Endpoints) -> None:
    create_topics(endpoints.kafka_bootstrap, settings.replication_factor)
    metrics_server, _ = start_http_server(settings.metrics_port, addr=settings.bind)
    log.info("%s: metrics on http://%s:%d/metrics", role, settings.bind, metrics_server.server_port)
    with clients(endpoints.kafka_bootstrap) as kafka, _sink(role, settings, endpoints, kafka) as sink:
        places = places_of(TOPICS_OF[role])
        ends = catch_up(sink, kafka.reader, places, metrics.EVENTS_TAKEN.labels(role=role).inc)
        retry(lambda: hand_over(kafka.admin, group_of(role), ends))
        if isinstance(sink, FoldSink):
            _apply_policies(settings, sink.states, kafka.outbox)
            if settings.tick_interval_s:
                _tick(kafka.outbox)
            kafka.outbox.flush()
        app = faust_app(role, settings, endpoints.kafka_bootstrap)
        add_agent(app, role, TOPICS_OF[role], sink)
        _add_timers(app, role, settings, kafka.outbox)
        log.info("%s: live", role)
        _work(app)
        if isinstance(sink, FoldSink):
            for model in MODELS:
                sink.save(model)


def _work(app: faust.App) -> None:
    """Run the app until it is stopped. One that crashes ends the process with a code that is not 0: what its
    agent had in hand is done first at the next start, and nothing is done before it."""
    try:
        faust.Worker(app, loglevel=None, override_logging=False, quiet=True).execute_from_commandline()
    except SystemExit as end:
        if end.code:
            raise
    finally:
        signal.signal(signal.SIGTERM, _leave)  # Faust's own handler went with its event loop


_leaving = threading.Event()


def _leave(_number: int, _frame: object) -> NoReturn:
    _leaving.set()
    sys.exit(0)


def faust_app(role: Role, settings: Settings, bootstrap: str) -> faust.App:
    """The Faust app of a role, without agents yet."""
    index = ROLES.index(role)
    datadir = settings.state_dir / "faust" / role
    datadir.mkdir(parents=True, exist_ok=True)
    return faust.App(
        group_of(role),
        broker=f"kafka://{bootstrap}",
        store="memory://",
        datadir=str(datadir),
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=1.0,
        broker_commit_every=None,
        broker_session_timeout=SESSION_TIMEOUT_S,
        agent_supervisor=CrashingSupervisor,
        stream_wait_empty=False,
        web_enabled=settings.web_port > 0,
        web_bind=settings.bind,
        web_port=settings.web_port + index if settings.web_port else 6066,
        worker_redirect_stdouts=False,
    )


@contextlib.contextmanager
def _sink(role: Role, settings: Settings, endpoints: Endpoints, kafka: Clients) -> Iterator[Sink]:
    if role == "journal":
        states = {model: state_now(kafka.reader, model, settings.snapshots_dir) for model in MODELS}
        _apply_policies(settings, states, kafka.outbox)  # the rules come before the first example
        kafka.outbox.flush()
        seen = {model: state.source_offsets for model, state in states.items()}
        committed = retry(lambda: committed_offsets(kafka.admin, group_of(role)))
        yield JournalSink(kafka.outbox, seen, committed)
    elif role == "fold":
        yield FoldSink(kafka.outbox, kafka.reader, settings.snapshots_dir)
    else:
        with neo4j_driver(endpoints.neo4j_uri, endpoints.neo4j_user, endpoints.neo4j_password) as driver:
            create_constraints(driver)
            yield GraphSink(driver, kafka.outbox)


def _apply_policies(settings: Settings, states: Mapping[str, State], outbox: RecordProducer) -> None:
    """Send the configured rules to each journal that doesn't have them.

    Without configured rules a journal keeps those it has, and one that has none gets the model's defaults.
    """
    configured = load_policies(settings.policy_file)
    for model in MODELS:
        state = states[model]
        wanted = configured.get(model, state.policy)
        if not state.has_policy or wanted != state.policy:
            outbox.send(JOURNAL.name, PolicyChange(wanted), key=model, partition=partition_of(model))
            log.info("%s: new policy written to the journal", model)


def _tick(outbox: RecordProducer) -> None:
    now = Tick(int(time.time() * 1000))
    for model in MODELS:
        outbox.send(JOURNAL.name, now, key=model, partition=partition_of(model))


def _add_timers(app: faust.App, role: Role, settings: Settings, outbox: RecordProducer) -> None:
    @app.timer(LAG_EVERY_S)
    async def lag() -> None:
        with contextlib.suppress(KafkaError):  # a broker that does not answer leaves the last number standing
            behind = await _behind(app)
            if behind is None:
                metrics.LAG.clear()
            else:
                metrics.LAG.labels(role=role).set(behind)

    if role == "fold" and settings.tick_interval_s:

        @app.timer(settings.tick_interval_s, on_leader=False)
        async def tick() -> None:
            _tick(outbox)


async def _behind(app: faust.App) -> int | None:
    """Messages on the partitions of this worker without a committed effect; None while it has no partitions.

    The ends are asked of the broker: what the consumer itself knows stands still while Faust pauses it.
    """
    consumer_: Any = app.consumer
    places = consumer_.assignment() if consumer_ else set()
    if not places:
        return None
    ends = await consumer_.highwaters(*places)
    return sum(max(end - (consumer_._committed_offset[place] or 0), 0) for place, end in ends.items())
