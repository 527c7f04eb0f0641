"""Builds all clients of a role, and runs its Faust app until it is stopped.

journal   threat.*             ->  retrain.journal.v1
graph     threat.*             ->  Neo4j, without what a lineage change on model.versions.v1 leaves out
fold      retrain.journal.v1   ->  retrain.windows.v1, retrain.triggers.v1
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import faust
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from mode.supervisors import CrashingSupervisor

from schemas.errors import RetryLater
from schemas.journal import PolicyChange, Tick
from schemas.models import MODELS, completed
from schemas.policy import Policy
from schemas.topics import EVENT_TOPICS, JOURNAL, TOPICS, VERSIONS, Topic, partition_of
from streams import telemetry
from streams.app.agents import add_agent
from streams.app.broker_login import broker_credentials
from streams.app.catch_up import all_events
from streams.app.fold_sink import FoldSink
from streams.app.graph_sink import GraphSink, create_constraints
from streams.app.journal_sink import JOURNALED, JournalSink
from streams.app.ownership import Ownership, confirm_owner, follow_rebalances
from streams.app.policy_file import load_policies
from streams.app.quarantine import QuarantineGate
from streams.app.replay import state_now
from streams.app.sink import Sink
from streams.app.worker import (
    ReadCommittedTransport,
    add_health_timer,
    add_lag_timer,
    add_topics_timer,
    exit_at_sigterm,
    run_worker,
)
from streams.core.fold import State
from streams.local.services import Endpoints
from streams.settings import Settings
from transport.admin import admin_client, committed_offsets
from transport.health import Health
from transport.kafka import NO_DELIVERY_TIMEOUT_MS, RecordProducer, consumer, producer
from transport.metrics import serve_metrics
from transport.neo4j import neo4j_driver
from transport.retry import retry
from transport.topics import TopicIds, create_topics, partitions_of, retention_s

log = logging.getLogger(__name__)

Role = Literal["journal", "graph", "fold"]
ROLES: tuple[Role, ...] = ("journal", "graph", "fold")
GRAPHED = (*EVENT_TOPICS, VERSIONS)
TOPICS_OF: Mapping[Role, Sequence[Topic]] = {"journal": JOURNALED, "graph": GRAPHED, "fold": (JOURNAL,)}
"""Role -> the topics that it reads."""

LAG_INTERVAL_S = 5.0
HEALTH_INTERVAL_S = 1.0
"""Seconds between two updates of the lag gauge."""
QUARANTINE_INTERVAL_S = 2.0
"""Seconds between two looks for scores, and for verdicts on what is set aside."""

SESSION_TIMEOUT_S = 10.0
"""Time until Kafka reassigns the partitions of a killed worker, seconds (Faust's default is a minute)."""

LONGEST_BACKLOG_S = 86_400.0
"""Longest time in which a worker that sends heartbeats may get no message, seconds: it reads a backlog in bulk."""


def group_of(role: Role) -> str:
    """The consumer group of a role, which is also the id of its Faust app."""
    return f"sx9-{role}"


@dataclass(frozen=True)
class Clients:
    """The Kafka clients of a role, and the ids of the topics; `reader` belongs to no group."""

    admin: KafkaAdminClient
    reader: KafkaConsumer
    producer: RecordProducer
    topics: TopicIds


@contextlib.contextmanager
def clients(bootstrap: str) -> Iterator[Clients]:
    """The Kafka clients of a role, closed at the end of the block.

    Raises:
        RetryLater: No broker answers.
    """
    admin = admin_client(bootstrap)
    kafka_producer = producer(bootstrap, delivery_timeout_ms=NO_DELIVERY_TIMEOUT_MS)
    reader = consumer(bootstrap)
    try:
        yield Clients(admin, reader, RecordProducer(kafka_producer), TopicIds(admin, TOPICS))
    finally:
        reader.close()
        kafka_producer.close(timeout=5)
        admin.close()


def run_role(role: Role, settings: Settings, endpoints: Endpoints) -> None:
    """Run one role until SIGTERM or SIGINT. The next start continues with what is unfinished then.

    Other processes may run the same role: Kafka divides the partitions among them (`streams.app.ownership`).

    Args:
        role: Which.
        settings: Of this process.
        endpoints: Addresses of Kafka, and for the graph role of Neo4j.

    Raises:
        RetryLater, BadConfiguration: Kafka or Neo4j can't be used.
    """
    with exit_at_sigterm() as stop:
        create_topics(endpoints.kafka_bootstrap, settings.replication_factor)
        health = Health()
        serve_metrics(role, settings.metrics_port, settings.bind, {"state": settings.state_dir}, health)
        telemetry.show_role(role)
        with clients(endpoints.kafka_bootstrap) as kafka, sink_of(role, settings, endpoints, kafka) as sink:
            _show_retention(kafka)
            ownership = Ownership(sink, kafka.reader, role, stop, _on_owned(sink, settings, kafka.producer))
            app = faust_app(role, settings, endpoints.kafka_bootstrap)
            follow_rebalances(app, ownership, role, [topic.name for topic in TOPICS_OF[role]])
            add_agent(app, role, TOPICS_OF[role], ownership)
            if isinstance(sink, FoldSink):
                sink.confirm = functools.partial(confirm_owner, app)
            _add_lag_timer(app, role, kafka)
            add_topics_timer(app, kafka.topics, LAG_INTERVAL_S)
            if isinstance(sink, JournalSink):
                _add_quarantine_timer(app, sink, ownership)
            if role == "fold" and settings.tick_interval_s:
                _add_tick_timer(app, settings.tick_interval_s, kafka.producer)
            add_health_timer(app, health, HEALTH_INTERVAL_S)
            try:
                run_worker(app, stop)
            finally:
                health.set_not_ready("stopping")
                ownership.revoke()
            if isinstance(sink, FoldSink):
                for model in MODELS:
                    sink.save(model)


@contextlib.contextmanager
def sink_of(role: Role, settings: Settings, endpoints: Endpoints, kafka: Clients) -> Iterator[Sink]:
    """The sink of a role, with the clients that only it needs closed at the end of the block.

    Raises:
        RetryLater, BadConfiguration: Kafka or Neo4j can't be used.
    """
    if role == "journal":
        states = {model: state_now(kafka.reader, model, settings.snapshots_dir) for model in MODELS}
        _apply_policies(load_policies(settings.policy_file), states, kafka.producer)  # before the first example
        kafka.producer.flush()
        seen = {model: state.source_offsets for model, state in states.items()}
        gate = QuarantineGate(kafka.producer, kafka.reader, states)
        gate.follow()  # the policies

        def committed() -> Mapping[TopicPartition, int]:
            return retry(lambda: committed_offsets(kafka.admin, group_of(role)))

        yield JournalSink(kafka.producer, seen, committed, kafka.topics, gate)
    elif role == "fold":
        yield FoldSink(kafka.producer, kafka.reader, settings.snapshots_dir, kafka.topics)
    else:
        with neo4j_driver(endpoints.neo4j_uri, endpoints.neo4j_user, endpoints.neo4j_password) as driver:
            create_constraints(driver)
            yield GraphSink(driver, kafka.producer, kafka.topics, lambda: all_events(kafka.reader))


def faust_app(role: Role, settings: Settings, bootstrap: str) -> faust.App:
    """The Faust app of a role, without agents or timers.

    Args:
        role: Which; its group is the id of the app.
        settings: Give the folder of Faust's data, and the ports.
        bootstrap: host:port of the broker.
    """
    datadir = settings.state_dir / "faust" / role
    datadir.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        group_of(role),
        broker=f"kafka://{bootstrap}",
        broker_credentials=broker_credentials(bootstrap),
        store="memory://",
        datadir=str(datadir),
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=1.0,
        broker_commit_every=None,
        broker_session_timeout=SESSION_TIMEOUT_S,
        broker_max_poll_interval=LONGEST_BACKLOG_S,
        agent_supervisor=CrashingSupervisor,
        stream_wait_empty=False,
        web_enabled=settings.web_port > 0,
        web_bind=settings.bind,
        web_port=settings.web_port + ROLES.index(role) if settings.web_port else 6066,
        worker_redirect_stdouts=False,
    )
    app.transport = ReadCommittedTransport(app.conf.broker_consumer, app)
    return app


def _add_lag_timer(app: faust.App, role: Role, kafka: Clients) -> None:
    partitions = partitions_of(kafka.reader, TOPICS_OF[role])
    add_lag_timer(app, role, partitions, lambda: committed_offsets(kafka.admin, group_of(role)), LAG_INTERVAL_S)


def _on_owned(
    sink: Sink, settings: Settings, record_producer: RecordProducer
) -> Callable[[frozenset[TopicPartition]], None]:
    """What a worker does when it has taken over partitions.

    The fold role sends to each journal that it has for the first time the configured policy, and the time.
    """
    told: set[str] = set()
    configured = load_policies(settings.policy_file) if isinstance(sink, FoldSink) else {}

    def tell(partitions: frozenset[TopicPartition]) -> None:
        if isinstance(sink, FoldSink):
            new = sorted({MODELS[each.partition] for each in partitions if each.partition < len(MODELS)} - told)
            _apply_policies(configured, {model: sink.states[model] for model in new}, record_producer)
            if settings.tick_interval_s:
                _send_ticks(record_producer, new)
            told.update(new)
            record_producer.flush()

    return tell


def _add_quarantine_timer(app: faust.App, sink: JournalSink, ownership: Ownership) -> None:
    async def settle() -> None:
        with contextlib.suppress(RetryLater):  # the next time, then
            await asyncio.to_thread(ownership.between_writes, sink.settle)

    app.timer(QUARANTINE_INTERVAL_S)(settle)


def _show_retention(kafka: Clients) -> None:
    for topic, seconds in retry(lambda: retention_s(kafka.admin)).items():
        telemetry.RETENTION.labels(topic=topic).set(seconds)


def _apply_policies(
    configured: Mapping[str, Policy], states: Mapping[str, State], record_producer: RecordProducer
) -> None:
    """Send the configured policy to each journal whose policy is another, of those whose states are given.

    A model without a configured policy keeps the one in its journal; a journal without any gets the default. What a
    policy of an earlier release does not say gets its default, so that it is in the log from here on.
    """
    for model, state in states.items():
        policy = completed(model, configured.get(model, state.policy))
        if not state.has_policy or policy != state.policy:
            record_producer.send(JOURNAL.name, PolicyChange(policy), key=model, partition=partition_of(model))
            log.info("%s: new policy written to the journal", model)


def _send_ticks(record_producer: RecordProducer, models: Iterable[str] = MODELS) -> None:
    """Send the current time to journals."""
    now = Tick(int(time.time() * 1000))
    for model in models:
        record_producer.send(JOURNAL.name, now, key=model, partition=partition_of(model))


def _add_tick_timer(app: faust.App, interval_s: float, record_producer: RecordProducer) -> None:
    async def send_ticks() -> None:
        _send_ticks(record_producer)

    app.timer(interval_s, on_leader=False)(send_ticks)
