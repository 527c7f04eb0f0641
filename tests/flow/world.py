"""Reads and writes topics and graph for the tests of the whole flow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient

from schemas.codec import decode
from schemas.encoding import encode_event
from schemas.events import DeadLetter, Event
from schemas.journal import Example, Promoted, Record, SeenOffsets, Source, is_redelivery, source_partition
from schemas.policy import Policy
from schemas.topics import DEAD_LETTERS, EVENT_TOPICS, JOURNAL, TOPICS, TRIGGERS, WINDOWS, Topic, partition_of
from schemas.windows import Trigger
from streams.app.wiring import ROLES, group_of
from streams.core.fold import Output, State, fold
from streams.core.projections.base import project
from streams.fetchers.base.feed import no_progress
from streams.fetchers.base.publish import outgoing_event, publish
from streams.local.services import Endpoints
from tests.flow.roles import role, until
from tests.streams.core.records import SMALL
from transport.admin import admin_client
from transport.kafka import RecordProducer, consumer, end_offset, producer, read_ranges
from transport.neo4j import neo4j_driver
from transport.records import decoded
from transport.topics import partitions_of

MODEL = "distilbert-mitre"
PARTITION = partition_of(MODEL)
OBSERVED_MS = 1_600_000_000_123


def clear(endpoints: Endpoints) -> None:
    """Delete topics, groups and graph."""
    with contextlib.closing(admin_client(endpoints.kafka_bootstrap)) as admin:
        names = {topic.name for topic in TOPICS}
        if there := names & set(admin.list_topics()):
            admin.delete_topics(list(there))
            until(lambda: not names & set(admin.list_topics()), "topics gone")
        groups = {group_of(name) for name in ROLES}
        until(lambda: not _left_after_deleting(admin, groups), "groups gone")
    with neo4j_driver(endpoints.neo4j_uri) as driver:
        driver.execute_query("MATCH (n) DETACH DELETE n")


def _left_after_deleting(admin: KafkaAdminClient, groups: set[str]) -> set[str]:
    """The groups that still exist: Kafka waits some seconds for a member that was killed."""
    left = groups & {group["group_id"] for group in admin.list_groups()}
    if left:
        admin.delete_groups(list(left))
    return left


class World:
    """A Kafka, a Neo4j and a state folder."""

    def __init__(self, endpoints: Endpoints, state_dir: Path) -> None:
        self.endpoints = endpoints
        self.bootstrap = endpoints.kafka_bootstrap
        self.state_dir = state_dir
        self.reader = consumer(self.bootstrap)
        self.writer = producer(self.bootstrap, linger_ms=0)
        self._stack = contextlib.ExitStack()
        self.driver: Any = None
        if endpoints.neo4j_uri:
            self.driver = self._stack.enter_context(neo4j_driver(endpoints.neo4j_uri))

    def close(self) -> None:
        self.reader.close()
        self.writer.close()
        self._stack.close()

    def role(self, name: str, **settings: Any) -> Any:
        """A running role with the small policy."""
        return role(name, self.endpoints, self.state_dir, policy_file=str(self._policy_file()), **settings)

    def _policy_file(self) -> Path:
        file = self.state_dir / "policy.toml"
        values = {name: getattr(SMALL, name) for name in Policy.__struct_fields__}
        fields = (f"{name} = {value}" for name, value in values.items() if isinstance(value, int | float))
        file.write_text("\n".join((f"[{MODEL}]", *fields)))
        return file

    def publish(self, events: Iterable[Event]) -> None:
        """Publish events, as a fetcher does."""
        publish(self.bootstrap, [outgoing_event(encode_event(event), OBSERVED_MS) for event in events], no_progress)

    def put(self, topic: Topic, partition: int, value: bytes | None) -> int:
        """Put bytes on a topic; returns their offset."""
        return int(
            self.writer.send(topic.name, key=b"key", value=value, partition=partition).get(timeout=30).offset
        )

    def write(self, records: Sequence[Record]) -> None:
        """Put records in the journal."""
        record_producer = RecordProducer(self.writer)
        for record in records:
            record_producer.send(JOURNAL.name, record, key=MODEL, partition=PARTITION)
        record_producer.flush()

    def messages(self, *topics: Topic) -> list[Any]:
        """All current messages, in offset order within each partition."""
        ranges = {
            partition: (0, end_offset(self.reader, *partition)) for partition in partitions_of(self.reader, topics)
        }
        return [message for messages in read_ranges(self.reader, ranges) for message in messages]

    def records(self, topic: Topic) -> list[Any]:
        """The records of a topic; if it has one partition per model, only those of `MODEL`."""
        found = self.messages(topic)
        if topic in (WINDOWS, TRIGGERS):
            found = [message for message in found if message.partition == PARTITION]
        return [decode(message.value, topic.record) for message in found]

    def letters(self) -> list[DeadLetter]:
        return self.records(DEAD_LETTERS)

    def events(self) -> list[tuple[Any, Event]]:
        """(message, event) of all events on the topics."""
        return [(message, decode(message.value, Event)) for message in self.messages(*EVENT_TOPICS)]

    def journal(self, model: str = MODEL) -> list[tuple[int, Record]]:
        """(offset, record) of a model's journal."""
        found = (m for m in self.messages(JOURNAL) if m.partition == partition_of(model))
        return [
            (message.offset, record)
            for message, record in decoded(found, Record, JOURNAL.name, partition_of(model))
        ]

    def answer(self, answered: set[str]) -> None:
        """Promote every trigger that is not in `answered` yet, as a trainer whose candidates always pass does."""
        new = [t for t in self.records(TRIGGERS) if t.id not in answered]
        self.write([Promoted(trigger=trigger.id, version=trigger.version, time_ms=0) for trigger in new])
        answered |= {trigger.id for trigger in new}


def sources(world: World, model: str = MODEL) -> list[tuple[str, int, int]]:
    """The events on the topics from which a model can learn."""
    found = [((message.topic, message.partition, message.offset), event) for message, event in world.events()]
    return sorted(partition for partition, event in found if project(model, event, Source(*partition)))


def in_journal(world: World, model: str) -> list[tuple[str, int, int]]:
    """The events whose examples a journal has, without redeliveries."""
    found = (example.source for example in effective_examples(world.journal(model)))
    return sorted((source.topic, source.partition, source.offset) for source in found)


def complete(world: World, model: str) -> bool:
    """Whether the journal of a model has an example of every event that it can learn from."""
    return in_journal(world, model) == sources(world, model)


def effective_examples(journal: Iterable[tuple[int, Record]]) -> list[Example]:
    """The examples that are not redeliveries."""
    seen: dict[str, SeenOffsets] = {}
    return [
        record
        for _, record in journal
        if isinstance(record, Example)
        and not is_redelivery(record.source, seen.setdefault(source_partition(record.source), {}))
    ]


def pure_fold(journal: Iterable[tuple[int, Record]]) -> tuple[State, list[Output]]:
    """The result of folding a journal in this process."""
    return fold(State(model=MODEL), journal)


def triggers_of(outputs: Iterable[Output]) -> list[Trigger]:
    return [output for output in outputs if isinstance(output, Trigger)]
