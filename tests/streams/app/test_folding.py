"""The fold's outputs are on their topics before a snapshot says that they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer

from schemas.errors import RetryLater
from schemas.journal import PolicyChange, Promoted, Record
from schemas.topics import DEAD_LETTERS, JOURNAL, TRIGGERS, WINDOWS, partition_of
from schemas.windows import Trigger, Window
from streams.app import fold_sink as folding
from streams.app.fold_sink import FoldSink
from streams.core.fold import State, fold, snapshot
from tests.streams.app.messages import Box, message
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


def outputs(box: Box) -> list[Any]:
    return [record for topic, record in box.sent if topic in (WINDOWS.name, TRIGGERS.name)]


def expected() -> tuple[State, list[Any]]:
    state, found = fold(State(model=MODEL), list(enumerate(RECORDS)))
    return state, [output for output in found if isinstance(output, Window | Trigger)]


def sink(box: Box, reader: KafkaConsumer, path: Path) -> FoldSink:
    return FoldSink(box, reader, path)  # type: ignore[arg-type]


def test_outputs_are_those_of_the_pure_fold_each_once(reader: KafkaConsumer, tmp_path: Path) -> None:
    box = Box()
    one = sink(box, reader, tmp_path)
    one.take(at(RECORDS[:30]))
    one.take(at(RECORDS[10:50], 10))
    one.take(at(RECORDS[50:], 50))
    state, wanted = expected()
    assert outputs(box) == wanted
    assert len(wanted) > 5
    assert snapshot(one.states[MODEL]) == snapshot(state)
    assert one.positions([(JOURNAL.name, PARTITION)]) == {(JOURNAL.name, PARTITION): len(RECORDS)}


def test_a_batch_that_could_not_be_sent_is_not_sent_again_but_waited_for(
    reader: KafkaConsumer, tmp_path: Path
) -> None:
    box = Box(away=2)
    one = sink(box, reader, tmp_path)
    for _ in range(2):
        with pytest.raises(RetryLater):
            one.take(at(RECORDS))
    one.take(at(RECORDS))
    assert outputs(box) == expected()[1]
    assert box.flushed == len(box.sent)


def test_a_snapshot_is_never_ahead_of_what_was_sent(
    reader: KafkaConsumer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    monkeypatch.setattr(folding, "save_state", lambda _reader, state, _dir: saved.append(state.next_offset))
    one = sink(Box(away=1), reader, tmp_path)
    with pytest.raises(RetryLater):
        one.take(at(RECORDS))
    one.save(MODEL)  # SIGTERM while the broker is away
    assert saved == []
    one.take(at(RECORDS))
    one.save(MODEL)
    one.save(MODEL)
    assert saved == [len(RECORDS)]


def test_what_does_not_decode_is_a_dead_letter_and_the_fold_passes_over_it(
    reader: KafkaConsumer, tmp_path: Path
) -> None:
    box = Box()
    records = [*RECORDS, b'{"type":"unheard-of"}']
    sink(box, reader, tmp_path).take(at(records))
    assert [letter.origin for letter in box.of(DEAD_LETTERS.name)] == [
        f"{JOURNAL.name}/{PARTITION}/{len(RECORDS)}",
    ]
    assert outputs(box) == expected()[1]


def test_what_another_worker_sent_while_it_had_the_journal_is_not_sent_again(
    kafka_bootstrap: str, reader: KafkaConsumer, tmp_path: Path
) -> None:
    model = "gnn-threat"  # only this test writes its topics
    number = partition_of(model)
    records: list[Record] = [*RECORDS[:-1], Promoted(trigger=f"{model}@20", version="v0001", time_ms=0)]
    batch = [message(record, offset, number, JOURNAL.name) for offset, record in enumerate(records)]
    writer = producer(kafka_bootstrap)
    real, box = RecordProducer(writer), Box()
    first = sink(box, reader, tmp_path / "first")
    second = FoldSink(real, reader, tmp_path / "second")
    for record in records:
        real.send(JOURNAL.name, record, key=model, partition=number)
    real.flush()
    first.take(batch[:5])
    second.take(batch[:-1])
    assert outputs(box) == []
    first.take(batch[-1:])  # the journal came back to it: it has a gap to fill
    writer.close()
    state, found = fold(State(model=model), list(enumerate(records)))
    assert snapshot(first.states[model]) == snapshot(state)
    wanted = [output for output in found if isinstance(output, Window | Trigger)]
    assert outputs(box) == wanted[-1:]  # made by the last record; the others are on their topics
    assert len(wanted) > 5
