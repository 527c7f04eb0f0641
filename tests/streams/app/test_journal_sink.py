"""Events become journal records, and a start knows which events the journals already have."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from kafka import TopicPartition

from schemas.errors import RestartRequired, RetryLater
from schemas.models import MODELS
from schemas.topics import DEAD_LETTERS, JOURNAL, TECHNIQUES, TEMPLATES
from streams.app.journal_sink import JournalSink
from streams.app.sink import ConsumedMessage
from tests.flow.events import group, technique, template, uses
from tests.flow.world import MODEL
from tests.streams.app.messages import FakeProducer, FakeTopicIds, message, messages

PARTITION = TopicPartition(TECHNIQUES.name, 2)
NAME = f"{TECHNIQUES.name}/2"


def sink(
    fake: FakeProducer, seen: dict[str, int] | None = None, committed: dict[Any, int] | None = None
) -> JournalSink:
    held = {name: {"id-1": offset} for name, offset in (seen or {}).items()}
    return JournalSink(fake, dict.fromkeys(MODELS, held), lambda: committed or {}, FakeTopicIds())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            "distilbert-mitre",
            [
                ("technique:T1001", 0, False),
                ("relationship:relationship--1", 2, False),
                ("template:nuclei-templates:1", 3, False),
                ("technique:T1002", 4, True),
            ],
        ),
        ("phi3-mitre-lora", [("technique:T1001", 0, False), ("technique:T1002", 4, True)]),
        (
            "gnn-threat",
            [
                ("node:T1001", 0, False),
                ("node:intrusion-set--1", 1, False),
                ("link:relationship--1", 2, False),
                ("node:T1002", 4, True),
            ],
        ),
    ],
)
def test_each_event_that_a_model_learns_from_becomes_one_example_with_its_source(
    model: str, expected: list[tuple[str, int, bool]]
) -> None:
    fake = FakeProducer()
    events = [technique(1), group(1), uses(1), template(1), technique(2, status="revoked")]
    sink(fake).write(messages(events))
    found = fake.of(JOURNAL.name, model)
    assert [(e.key, e.source.offset, e.retracted) for e in found] == expected
    assert {e.source.timestamp_ms for e in found} == {1_600_000_000_000}
    assert fake.flushed == len(fake.sent)


def test_an_event_that_one_journal_has_is_read_again_for_another_but_not_written_twice() -> None:
    fake, held = FakeProducer(), {NAME: {"id-1": 7}}
    late = JournalSink(
        fake, {"distilbert-mitre": held, "phi3-mitre-lora": held}, lambda: {PARTITION: 20}, FakeTopicIds()
    )  # type: ignore[arg-type]
    assert late.positions([PARTITION]) == {PARTITION: 0}, "the graph's journal is new"
    late.write([message(technique(offset), offset, partition=PARTITION.partition) for offset in range(10)])
    written = {model: [e.source.offset for e in fake.of(JOURNAL.name, model)] for model in MODELS}
    assert written == {"distilbert-mitre": [8, 9], "phi3-mitre-lora": [8, 9], "gnn-threat": list(range(10))}


def test_only_the_journals_of_models_that_learn_from_a_topic_determine_its_position() -> None:
    partition = TopicPartition(TEMPLATES.name, 0)
    one = JournalSink(
        FakeProducer(), {"distilbert-mitre": {f"{TEMPLATES.name}/0": {"id-1": 7}}}, dict, FakeTopicIds()
    )  # type: ignore[arg-type]
    assert one.positions([partition]) == {partition: 8}


def test_a_template_is_an_example_of_its_severity_until_it_has_no_known_severity() -> None:
    fake = FakeProducer()
    good = msgspec.structs.replace(template(1), text="Finds a  default login.", tags=("cve", "panel"))
    unknown, old = (
        msgspec.structs.replace(good, **now) for now in ({"severity": "unknown"}, {"status": "deprecated"})
    )
    sink(fake).write(messages([good, unknown, old]))
    first, *later = fake.of(JOURNAL.name, MODEL)
    assert (first.text, first.labels, first.taxonomy) == (
        "Template 1. Tags: cve, panel. Finds a default login.",
        ("severity:high",),
        "nuclei-templates",
    )
    assert [(e.key, e.retracted, e.text, e.labels) for e in later] == [(first.key, True, "", ())] * 2


def test_a_message_that_does_not_decode_becomes_a_dead_letter_and_the_others_are_processed() -> None:
    fake = FakeProducer()
    sink(fake).write(messages([technique(1), b"{nonsense", technique(2)], first=40, topic=TECHNIQUES.name))
    (letter,) = fake.of(DEAD_LETTERS.name)
    assert (letter.origin, letter.reason, letter.payload) == (
        f"{TECHNIQUES.name}/0/41",
        "undecodable",
        b"{nonsense",
    )
    assert [e.source.offset for e in fake.of(JOURNAL.name, MODEL)] == [40, 42]


def test_write_fails_until_the_broker_has_acknowledged_all_records() -> None:
    with pytest.raises(RetryLater):
        sink(FakeProducer(failures=1)).write([message(technique(1), 0)])


def test_a_batch_that_is_repeated_waits_for_its_records_and_sends_none_of_them_again() -> None:
    fake = FakeProducer(failures=2)
    one, batch = sink(fake), messages([technique(1), b"{nonsense", technique(2)], topic=TECHNIQUES.name)
    for _ in range(2):
        with pytest.raises(RetryLater):
            one.write(batch)
    one.write(batch)
    assert [e.source.offset for e in fake.of(JOURNAL.name, MODEL)] == [0, 2]
    assert len(fake.of(DEAD_LETTERS.name)) == 1
    assert fake.flushed == len(fake.sent)


def test_an_example_that_does_not_fit_a_message_is_a_dead_letter_and_the_others_are_written() -> None:
    fake = FakeProducer()
    large = msgspec.structs.replace(technique(1), name="x" * 460_000)  # phi3-mitre-lora writes it twice
    sink(fake).write(messages([large, technique(2)], topic=TECHNIQUES.name))
    (letter,) = fake.of(DEAD_LETTERS.name)
    assert (letter.origin, letter.reason) == (f"{TECHNIQUES.name}/0/0", "too-large")
    assert letter.detail.startswith("phi3-mitre-lora: the example has ")
    written = {model: [e.source.offset for e in fake.of(JOURNAL.name, model)] for model in MODELS}
    assert written == {"distilbert-mitre": [0, 1], "phi3-mitre-lora": [1], "gnn-threat": [0, 1]}


@pytest.mark.parametrize(
    ("seen", "committed", "position"),
    [
        ({}, 0, 0),
        ({NAME: 7}, 0, 8),  # the group lost its offset: the journal itself knows
        ({NAME: 7}, 5, 8),  # killed between write and commit
        ({NAME: 7}, 20, 20),  # no model learns from the events after 7
        ({}, 20, 0),  # a new journal: the committed offset belongs to the old one
    ],
)
def test_a_start_reads_from_the_first_event_that_the_journal_does_not_have(
    seen: dict[str, int], committed: int, position: int
) -> None:
    assert sink(FakeProducer(), seen, {PARTITION: committed}).positions([PARTITION]) == {PARTITION: position}


@pytest.mark.parametrize("observed", [b"", b"yesterday", b"\xff", b"0001-01-01", b"99999-01-01T00:00:00Z"])
def test_an_observation_time_that_can_not_be_read_is_0(observed: bytes) -> None:
    fake = FakeProducer()
    plain = message(technique(1), 0)
    sink(fake).write([ConsumedMessage(*msgspec.structs.astuple(plain)[:5], observed)])
    assert fake.of(JOURNAL.name, MODEL)[0].observed_ms == 0


@pytest.mark.parametrize(("seen_id", "position"), [("id-1", 8), ("", 8), ("id-0", 0)])
def test_only_what_a_journal_holds_of_the_present_topic_counts(seen_id: str, position: int) -> None:
    fake = FakeProducer()
    held = {model: {NAME: {seen_id: 7}} for model in MODELS}
    one = JournalSink(fake, held, dict, FakeTopicIds())  # type: ignore[arg-type]
    assert one.positions([PARTITION]) == {PARTITION: position}
    one.write([message(technique(offset), offset, partition=PARTITION.partition) for offset in range(10)])
    sources = [example.source for example in fake.of(JOURNAL.name, MODEL)]
    assert [source.offset for source in sources] == list(range(position, 10))
    assert {source.topic_id for source in sources} == {"id-1"}


def test_nothing_is_written_once_a_topic_was_made_again() -> None:
    fake = FakeProducer()
    one = JournalSink(fake, {}, dict, FakeTopicIds(replaced=True))  # type: ignore[arg-type]
    with pytest.raises(RestartRequired):
        one.write([message(technique(1), 0)])
    assert fake.sent == []
