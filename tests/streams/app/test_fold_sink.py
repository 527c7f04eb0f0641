"""The outputs of the fold are on their topics before a snapshot covers them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from schemas.errors import BadConfiguration, RetryLater
from schemas.journal import PolicyChange, Promoted, Record
from schemas.models import MODELS
from schemas.topics import DEAD_LETTERS, JOURNAL, TRIGGERS, WINDOWS, partition_of
from schemas.windows import Trigger, Window
from streams.app import fold_sink
from streams.app.fold_sink import FoldSink
from streams.app.replay import load_state, save_state
from streams.core.fold import State, fold, snapshot
from tests.streams.app.messages import FakeProducer, FakeTopicIds, message
from tests.streams.core.records import SMALL, training
from transport.kafka import RecordProducer, consumer, producer
from transport.topics import create_topics

MODEL = "phi3-mitre-lora"  # only this file writes its topics
PARTITION = partition_of(MODEL)
RECORDS = [PolicyChange(SMALL), *training(70), Promoted(trigger=f"{MODEL}@20", version="v0001", time_ms=0)]


@pytest.fixture(scope="module")
def reader(kafka_bootstrap: str) -> Iterator[KafkaConsumer]:
    create_topics(kafka_bootstrap)
    reader = consumer(kafka_bootstrap)
    yield reader
    reader.close()


def at(records: list[Any], first: int = 0) -> list[Any]:
    """Records as messages of the journal."""
    return [message(r, offset, PARTITION, JOURNAL.name) for offset, r in enumerate(records, first)]


def outputs(fake: FakeProducer) -> list[Any]:
    return [record for topic, record in fake.sent if topic in (WINDOWS.name, TRIGGERS.name)]


def expected() -> tuple[State, list[Any]]:
    state, found = fold(State(model=MODEL), list(enumerate(RECORDS)))
    return state, [output for output in found if isinstance(output, Window | Trigger)]


def sink(fake: FakeProducer, reader: KafkaConsumer, path: Path) -> FoldSink:
    return owning_all(FoldSink(fake, reader, path, FakeTopicIds()))  # type: ignore[arg-type]


def owning_all(one: FoldSink) -> FoldSink:
    one.assigned([TopicPartition(JOURNAL.name, number) for number in range(len(MODELS))])
    return one


def test_the_outputs_are_those_of_the_pure_fold_each_sent_once(reader: KafkaConsumer, tmp_path: Path) -> None:
    fake = FakeProducer()
    one = sink(fake, reader, tmp_path)
    one.write(at(RECORDS[:30]))
    one.write(at(RECORDS[10:50], 10))
    one.write(at(RECORDS[50:], 50))
    state, wanted = expected()
    partition = TopicPartition(JOURNAL.name, PARTITION)
    assert outputs(fake) == wanted
    assert len(wanted) > 5
    assert snapshot(one.states[MODEL]) == snapshot(state)
    assert one.positions([partition]) == {partition: len(RECORDS)}


def test_outputs_that_are_not_acknowledged_yet_are_waited_for_and_not_sent_again(
    reader: KafkaConsumer, tmp_path: Path
) -> None:
    fake = FakeProducer(failures=2)
    one = sink(fake, reader, tmp_path)
    for _ in range(2):
        with pytest.raises(RetryLater):
            one.write(at(RECORDS))
    one.write(at(RECORDS))
    assert outputs(fake) == expected()[1]
    assert fake.flushed == len(fake.sent)


def test_nothing_is_sent_while_kafka_may_have_given_the_journal_to_another_worker(
    reader: KafkaConsumer, tmp_path: Path
) -> None:
    fake, asked = FakeProducer(), list[tuple[TopicPartition, int]]()
    one = sink(fake, reader, tmp_path)

    def refuse(partition: TopicPartition, offset: int) -> None:
        asked.append((partition, offset))
        if len(asked) == 1:
            raise RetryLater("may belong to another worker")

    one.confirm = refuse
    with pytest.raises(RetryLater):
        one.write(at(RECORDS))
    assert outputs(fake) == []
    one.write(at(RECORDS))
    assert outputs(fake) == expected()[1]
    assert asked == [(TopicPartition(JOURNAL.name, PARTITION), len(RECORDS))] * 2
    one.write(at(RECORDS))
    assert len(asked) == 2, "nothing is new"


def test_outputs_wait_until_this_worker_has_their_journal_again(reader: KafkaConsumer, tmp_path: Path) -> None:
    fake = FakeProducer(failures=1)
    one = sink(fake, reader, tmp_path)
    one.confirm = lambda _partition, _offset: fake.flush()
    with pytest.raises(RetryLater):
        one.write(at(RECORDS))
    one.assigned([TopicPartition(JOURNAL.name, (PARTITION + 1) % len(MODELS))])
    one.write([])
    assert outputs(fake) == []
    one.assigned([TopicPartition(JOURNAL.name, PARTITION)])
    one.write([])
    assert outputs(fake) == expected()[1]


def test_a_snapshot_is_never_ahead_of_the_sent_outputs(
    reader: KafkaConsumer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    monkeypatch.setattr(fold_sink, "save_state", lambda _reader, state, _dir: saved.append(state.next_offset))
    one = sink(FakeProducer(failures=1), reader, tmp_path)
    with pytest.raises(RetryLater):
        one.write(at(RECORDS))
    one.save(MODEL)  # SIGTERM while the broker does not answer
    assert saved == []
    one.write(at(RECORDS))
    one.save(MODEL)
    one.save(MODEL)
    assert saved == [len(RECORDS)]


def test_a_record_that_does_not_decode_becomes_a_dead_letter_and_the_fold_skips_it(
    reader: KafkaConsumer, tmp_path: Path
) -> None:
    fake = FakeProducer()
    records = [*RECORDS, b'{"type":"unheard-of"}']
    sink(fake, reader, tmp_path).write(at(records))
    assert [letter.origin for letter in fake.of(DEAD_LETTERS.name)] == [
        f"{JOURNAL.name}/{PARTITION}/{len(RECORDS)}",
    ]
    assert outputs(fake) == expected()[1]


def test_a_message_of_a_partition_without_a_model_becomes_a_dead_letter(
    reader: KafkaConsumer, tmp_path: Path
) -> None:
    fake = FakeProducer()
    stray = message(training(1)[0], 3, 7, JOURNAL.name)
    sink(fake, reader, tmp_path).write([stray, *at(RECORDS)])
    assert [(letter.origin, letter.reason) for letter in fake.of(DEAD_LETTERS.name)] == [
        (f"{JOURNAL.name}/7/3", "no-model")
    ]
    assert outputs(fake) == expected()[1]


def test_an_open_trigger_that_is_not_on_its_topic_is_sent_at_the_start(
    reader: KafkaConsumer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, found = fold(State(model=MODEL), list(enumerate(RECORDS[:-1])))
    monkeypatch.setattr(
        fold_sink, "load_state", lambda _reader, model, _dir: state if model == MODEL else State(model=model)
    )
    fake = FakeProducer()
    sink(fake, reader, tmp_path)
    assert outputs(fake) == [output for output in found if isinstance(output, Trigger)][-1:]
    assert fake.flushed == 1
    assert fake.headers == [[("journal_id", b"id-1")]]


def test_outputs_that_another_worker_sent_before_a_rebalance_are_not_sent_again(
    kafka_bootstrap: str, reader: KafkaConsumer, tmp_path: Path
) -> None:
    model = "gnn-threat"  # only this test writes its topics
    number = partition_of(model)
    records: list[Record] = [*RECORDS[:-1], Promoted(trigger=f"{model}@20", version="v0001", time_ms=0)]
    batch = [message(record, offset, number, JOURNAL.name) for offset, record in enumerate(records)]
    writer = producer(kafka_bootstrap)
    real, fake = RecordProducer(writer), FakeProducer()
    first = sink(fake, reader, tmp_path / "first")
    second = owning_all(FoldSink(real, reader, tmp_path / "second", FakeTopicIds()))  # type: ignore[arg-type]
    for record in records:
        real.send(JOURNAL.name, record, key=model, partition=number)
    real.flush()
    first.write(batch[:5])
    second.write(batch[:-1])
    assert outputs(fake) == []
    first.write(batch[-1:])  # the journal is assigned to it again: it has a gap to fill
    writer.close()
    state, found = fold(State(model=model), list(enumerate(records)))
    assert snapshot(first.states[model]) == snapshot(state)
    wanted = [output for output in found if isinstance(output, Window | Trigger)]
    assert outputs(fake) == wanted[-1:]  # of the last record; the others are on their topics
    assert len(wanted) > 5
    with pytest.raises(BadConfiguration, match=r"retrain\.journal\.v1 was deleted .* delete retrain\.windows\.v1"):
        FoldSink(fake, reader, tmp_path / "third", FakeTopicIds("id-2"))  # type: ignore[arg-type]
    save_state(reader, state, tmp_path)
    assert snapshot(load_state(reader, model, tmp_path)) == snapshot(state)
    file = tmp_path / f"{model}.fold"
    file.write_bytes(b"0" * 32 + file.read_bytes()[32:])  # made from a journal with another last record
    assert load_state(reader, model, tmp_path).next_offset == 0
