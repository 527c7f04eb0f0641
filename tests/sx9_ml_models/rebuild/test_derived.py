"""A journal that is derived from the topics is the recorded one, except where today's code makes something else."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
from kafka import KafkaConsumer

from schemas.codec import decode, encode
from schemas.encoding import encode_event
from schemas.events import Event
from schemas.journal import Example, Manual, PolicyChange, Promoted, Record, SeenOffsets, Tick
from schemas.models import MODELS
from schemas.policy import GateLimits
from schemas.recipes.base import recipe_values
from schemas.topics import EVENT_TOPICS, JOURNAL, partition_of, topic_of
from streams.app.catch_up import catch_up
from streams.app.journal_sink import JOURNALED, JournalSink
from streams.app.replay import fold_from
from streams.core.fold import State, initial
from streams.local.services import settings_of
from streams.settings import load_settings
from sx9_ml_models.connections import topic_reader
from sx9_ml_models.journals import open_journal
from sx9_ml_models.rebuild import command, derived
from sx9_ml_models.rebuild.command import conclusions, plan_of
from tests.flow.events import group, technique, template, uses
from tests.streams.core.records import example
from tests.sx9_ml_models.rebuild.test_rebuild import RULES
from tests.trainers.conftest import fresh_kafka, trainer_kafka
from tests.trainers.runs.test_trigger_handler import QUICK, World
from tests.trainers.samples import MemoryLog
from trainers.bases.resolve import Base
from trainers.runs.execute_run import execute
from transport.admin import admin_client
from transport.kafka import NO_DELIVERY_TIMEOUT_MS, RecordProducer, consumer, producer
from transport.partition_file import PartitionFile
from transport.partition_log import records_between
from transport.topics import TopicIds, partitions_of

__all__ = ["fresh_kafka", "trainer_kafka"]

MODEL = "distilbert-mitre"
POLICY = msgspec.structs.replace(
    RULES, window_examples=20, bootstrap_examples=60, recipe=recipe_values(QUICK), gate=GateLimits(min_examples=1)
)


def test_with_unchanged_code_it_is_the_recorded_journal_and_leads_to_the_same_weights(
    fresh_kafka: str, tmp_path: Path, tiny: Base
) -> None:
    events: list[Event] = [
        *(technique(n) for n in range(20)), *(uses(n) for n in range(60)), *(template(n) for n in range(20)),
        group(1), technique(3, 1_600_000_000_000, "impact"), technique(4, status="revoked"),
    ]  # fmt: skip
    client = producer(fresh_kafka, delivery_timeout_ms=NO_DELIVERY_TIMEOUT_MS)
    reader, admin = consumer(fresh_kafka), admin_client(fresh_kafka)
    topics = TopicIds(admin, (JOURNAL, *EVENT_TOPICS))

    def publish(*some: Event) -> None:
        for event in some:
            client.send(topic_of(event).name, encode_event(event).value, key=event.id.encode())
        client.flush()

    def journal(*controls: Record) -> None:
        sink = JournalSink(RecordProducer(client), _seen(reader), dict, topics)
        catch_up(sink, reader, partitions_of(reader, JOURNALED))
        for record in controls:
            client.send(JOURNAL.name, encode(record), partition=partition_of(MODEL))
        client.flush()

    publish(*events[:50])
    journal(PolicyChange(POLICY), Tick(5))
    publish(*events[50:])
    journal(
        Manual(request="r", reason="asked", time_ms=6), Promoted(trigger="t", version="v0001", time_ms=7), Tick(8)
    )
    settings = load_settings(state_dir=tmp_path / "state", **settings_of(fresh_kafka))
    with open_journal(MODEL, None, settings) as log, topic_reader(settings) as events_reader:
        end = log.end()
        path, counts = derived.derive(MODEL, log, end, events_reader, topics, tmp_path / "d", lambda *_: None)
        recorded = [(m.offset, r) for m, r in records_between(log, Record, 0, end)]
    made = PartitionFile(path, JOURNAL.name, 0)
    assert [(m.offset, r) for m, r in records_between(made, Record, 0, made.end())] == recorded
    examples = sum(isinstance(record, Example) for _, record in recorded)
    assert (counts.same, counts.changed, counts.new, counts.gone, counts.controls) == (examples, 0, 0, 0, 5)
    assert examples > 90
    trainer = World(tmp_path, tiny, []).settings()
    anew = command.rebuild(
        plan_of(MODEL, None, [], from_topics=True), None, tmp_path / "anew", settings, trainer, execute
    )
    as_recorded = command.rebuild(
        plan_of(f"{MODEL}@v0001", None, []), None, tmp_path / "old", settings, trainer, execute
    )
    assert anew.versions[0].weights == as_recorded.versions[0].weights != {}
    assert anew.derived == counts
    assert f"{examples} as they are, 0 otherwise and 0 not at all, and 0 new" in conclusions(anew, tmp_path)[0]
    reader.close(), admin.close(), client.close()


def test_what_today_s_code_makes_otherwise_is_counted_and_takes_the_recorded_place() -> None:
    name = "threat.relationships.v1/0"
    relabelled = msgspec.structs.replace(example(2, "a"), labels=("b",))
    made = [example(0), example(1), relabelled, example(5), example(7)]
    db = sqlite3.connect(":memory:")
    db.executescript(derived.TABLE)
    rows = [(name, e.source.offset, "", 9, encode(e)) for e in made]
    db.executemany("INSERT INTO examples VALUES (?, ?, ?, ?, ?)", rows)
    recorded = [Tick(1), example(0), example(2), example(3), Tick(2), example(3), example(5)]
    journal = derived.DerivedJournal(MemoryLog(recorded), len(recorded), db)
    found = [(m.offset, decode(m.value, Record)) for batch in journal.read(0, journal.end()) for m in batch]
    assert found == [
        (0, Tick(1)), (1, example(0)), (2, example(1)), (3, relabelled), (4, Tick(2)), (6, example(5)),
        (7, example(7)),
    ]  # fmt: skip
    counts = journal.counts
    assert (counts.same, counts.changed, counts.new, counts.gone, counts.controls) == (2, 1, 2, 1, 2)


def _seen(reader: KafkaConsumer) -> dict[str, dict[str, SeenOffsets]]:
    """What the journals hold, as the app asks before it continues."""
    return {model: _state(reader, model).source_offsets for model in MODELS}


def _state(reader: KafkaConsumer, model: str) -> State:
    *_, (state, _) = fold_from(reader, initial(model))
    return state
