"""On a real Kafka: events are named by feed, release and link; a feed is taken out; a journal is exported."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from schemas.events import Event, Technique, Template
from schemas.exclusions import parse_exclusions
from schemas.journal import Example, Record, Source, Tick
from schemas.models import MODELS
from schemas.topics import EVENT_TOPICS, JOURNAL, TRIGGERS, partition_of, topic_of
from schemas.versions import Manifest
from schemas.windows import Measure, Span, Trigger
from streams.core.projections.base import project
from streams.local.services import environment_of
from streams.settings import load_settings
from sx9_ml_models.explain.command import of_example, of_version
from sx9_ml_models.journals import export_journal, open_journal
from sx9_ml_models.rebuild.command import feeds_of, plan_of
from sx9_ml_models.rebuild.remaining import RemainingJournal
from trainers.store import manifest as manifests
from transport.kafka import RecordProducer, consumer, end_offset, producer, read_ranges
from transport.partition_file import PartitionFile
from transport.records import decoded
from transport.topics import partitions_of

MODEL = MODELS[0]
EVENTS: tuple[Event, ...] = (
    Technique(id="T1059.001", feed="attack-enterprise", release="17.1", stix_id="s1", name="PowerShell",
              text="abuse of PowerShell", tactics=("execution",), domain="enterprise-attack"),
    Template(id="nuclei:a", feed="nuclei-templates", release="0a1b2c", name="a", text="a", severity="high",
             path="http/a.yaml"),
    Template(id="nuclei:b", feed="nuclei-templates", release="0a1b2c", name="b", text="b", severity="low",
             path="http/b.yaml"),
)  # fmt: skip
TRIGGER = Trigger(
    model=MODEL, number=1, offset=3, reason="volume", at_ms=7, spans=(Span(0, 4, 3, "d"),),
    measures=(Measure("volume", 3.0, 2.0, True),),
)  # fmt: skip


@pytest.fixture
def filled(fresh_kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Events on their topics, a journal of older records that do not name feeds, a trigger, and its version."""
    for variable, value in environment_of(fresh_kafka).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("SX9_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SX9_OUTPUT_DIR", str(tmp_path / "output"))
    writer = producer(fresh_kafka)
    outbox = RecordProducer(writer)
    for event in EVENTS:
        outbox.send(topic_of(event).name, event, key=event.id)
    outbox.flush()
    with contextlib.closing(consumer(fresh_kafka)) as reader:
        ends = {partition: (0, end_offset(reader, *partition)) for partition in partitions_of(reader, EVENT_TOPICS)}
        read = [m for messages in read_ranges(reader, ends) for m in messages]
    found = {e.id: Source(m.topic, m.partition, m.offset) for m in read for _, e in decoded([m], Event, "", 0)}
    examples = [project(MODEL, event, found[event.id]) for event in EVENTS]
    for record in (*examples, Tick(7)):
        assert record
        outbox.send(JOURNAL.name, record, key=MODEL, partition=partition_of(MODEL))
    outbox.send(TRIGGERS.name, TRIGGER, key=MODEL, partition=partition_of(MODEL))
    outbox.flush()
    writer.close()
    folder = tmp_path / "output/models" / MODEL / "v0001"
    folder.mkdir(parents=True)
    made = Manifest(model=MODEL, version="v0001", trigger=TRIGGER.id, reason="volume", spans=TRIGGER.spans)
    manifests.write(folder, made)
    return fresh_kafka


def test_events_are_named_feeds_are_taken_out_and_the_journal_is_exported(filled: str, tmp_path: Path) -> None:
    story = of_version(f"{MODEL}@v0001", None, last=10)
    assert (story.at_ms, story.measures) == (TRIGGER.at_ms, TRIGGER.measures)
    by_id = {event.id: (event.feed, event.release, event.link) for event in story.events}
    known = {
        "T1059.001": ("attack-enterprise", "17.1", "https://attack.mitre.org/techniques/T1059/001/"),
        "nuclei:a": ("nuclei-templates", "0a1b2c", "http/a.yaml"),
        "nuclei:b": ("nuclei-templates", "0a1b2c", "http/b.yaml"),
    }
    assert by_id.items() <= known.items()
    assert len(by_id) == story.fresh > 0

    settings = load_settings()
    assert export_journal(MODEL, tmp_path / "journal.jsonl", settings)["records"] == 4
    plan = plan_of(MODEL, None, ["feed=nuclei-templates"])
    with open_journal(MODEL, None, settings) as log, feeds_of(plan.exclusions, None, settings) as feed_of:
        journal = RemainingJournal(log, log.end(), parse_exclusions(plan.exclusions), feed_of)
        left = [record for _, record in journal.records()]
        assert journal.excluded == {1, 2}
        assert [type(record) for record in left] == [Example, Tick]
        file = PartitionFile(tmp_path / "journal.jsonl", JOURNAL.name, 0)
        both = [
            [(m.offset, m.timestamp, r) for batch in each.read(0, 4) for m, r in decoded(batch, Record, "", 0)]
            for each in (log, file)
        ]
    assert both[0] == both[1]


def test_an_example_is_explained_where_no_trainer_has_run_and_the_copy_follows_the_journal(filled: str) -> None:
    assert [entry.offset for entry in of_example(MODEL, "T1059.001", None).entries] == [0]
    with contextlib.closing(producer(filled)) as writer:
        outbox = RecordProducer(writer)
        edit = project(MODEL, EVENTS[0], Source(topic_of(EVENTS[0]).name, 0, 1_000))
        assert edit
        outbox.send(JOURNAL.name, edit, key=MODEL, partition=partition_of(MODEL))
        outbox.flush()
    assert [entry.offset for entry in of_example(MODEL, "T1059.001", None).entries] == [0, 4]


def test_an_event_that_its_topic_no_longer_has_is_named_by_the_journal(filled: str) -> None:
    settings = load_settings()
    with open_journal(MODEL, None, settings) as log:
        last = log.end()
    gone = project(MODEL, Technique(id="T1055", feed="f", stix_id="s", name="n", text="Code is injected.",
                                    tactics=("privilege-escalation",), domain="enterprise-attack"),
                   Source(topic_of(EVENTS[0]).name, 0, 1_000))  # fmt: skip
    assert gone
    with contextlib.closing(producer(filled)) as writer:
        outbox = RecordProducer(writer)
        outbox.send(JOURNAL.name, gone, key=MODEL, partition=partition_of(MODEL))
        outbox.flush()
    spans = (Span(0, last + 1, 4, "d"),)
    folder = settings.output_dir / "models" / MODEL / "v0002"
    folder.mkdir()
    made = Manifest(model=MODEL, version="v0002", trigger=f"{MODEL}@{last}", reason="volume", spans=spans)
    manifests.write(folder, made)
    named = {event.id: event.position for event in of_version(f"{MODEL}@v0002", None, last=10).events}
    assert named["T1055"] == f"{topic_of(EVENTS[0]).name}/0/1000"
    assert len(named) > 1
