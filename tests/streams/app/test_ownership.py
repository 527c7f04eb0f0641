"""A worker reads and writes what it owns and nothing else, also while its partitions change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition

from schemas.topics import TECHNIQUES
from streams.app import catch_up
from streams.app.ownership import Ownership
from streams.app.sink import ConsumedMessage
from streams.app.worker import Stop
from tests.flow.events import technique
from tests.streams.app.messages import message

ON_TOPIC = 10
"""Messages of each partition, read two at a time."""
FIRST, SECOND = (TopicPartition(TECHNIQUES.name, number) for number in range(2))
TIMEOUT_S = 60.0


class MemorySink:
    """A sink that knows what it has; `during_write` is called after each write, before it returns."""

    def __init__(self, during_write: Callable[[], object] = lambda: None) -> None:
        self.written: list[tuple[int, int]] = []
        self.prepared: list[Collection[TopicPartition]] = []
        self.during_write = during_write

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        self.prepared.append(partitions)

    def positions(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {p: sum(number == p.partition for number, _ in self.written) for p in partitions}

    def write(self, messages: Sequence[ConsumedMessage]) -> None:
        self.written += [(each.partition, each.offset) for each in messages]
        self.during_write()


@pytest.fixture(autouse=True)
def full_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_reader: Any, ranges: Mapping[TopicPartition, tuple[int, int]]) -> Iterator[list[SimpleNamespace]]:
        for partition, (start, end) in ranges.items():
            for at in range(start, end, 2):
                yield [record(partition, offset) for offset in range(at, min(at + 2, end))]

    monkeypatch.setattr(catch_up, "end_offset", lambda *_: ON_TOPIC)
    monkeypatch.setattr(catch_up, "read_ranges", read)


def record(partition: TopicPartition, offset: int) -> SimpleNamespace:
    return SimpleNamespace(
        topic=partition.topic, partition=partition.partition, offset=offset, value=b"", timestamp=0, headers=()
    )


def all_of(partition: TopicPartition, start: int = 0) -> list[tuple[int, int]]:
    return [(partition.partition, offset) for offset in range(start, ON_TOPIC)]


def worker(sink: MemorySink) -> Ownership:
    return Ownership(sink, None, "journal", Stop())  # type: ignore[arg-type]


def revoke_meanwhile(ownership: Ownership, then: Callable[[], object] = lambda: None) -> threading.Thread:
    """Revoke its partitions in another thread; returns when they are, though something may still be written."""
    epoch = ownership.epoch

    def revoke() -> None:
        ownership.revoke()
        then()

    thread = threading.Thread(target=revoke)
    thread.start()
    for _ in range(int(TIMEOUT_S * 1_000)):
        if ownership.epoch > epoch:
            break
        thread.join(0.001)
    assert ownership.epoch == epoch + 1
    return thread


def test_a_worker_reads_the_backlog_of_its_partitions_only() -> None:
    sink = MemorySink()
    one = worker(sink)
    assert one.take_over(frozenset({SECOND}), one.epoch) == {SECOND: ON_TOPIC}
    assert sink.written == all_of(SECOND)
    assert (sink.prepared, one.partitions) == ([{SECOND}], {SECOND})


def test_messages_of_others_are_neither_written_nor_said_to_be() -> None:
    sink = MemorySink()
    one = worker(sink)
    one.take_over(frozenset({SECOND}), one.epoch)
    sink.written.clear()
    assert one.write([message(technique(n), ON_TOPIC, n) for n in range(2)]) == {SECOND}
    assert sink.written == [(1, ON_TOPIC)]
    one.revoke()
    assert one.write([message(technique(1), ON_TOPIC + 1, 1)]) == set()
    assert sink.written == [(1, ON_TOPIC)]


def test_a_backlog_is_left_after_the_batch_in_hand_and_the_next_owner_reads_the_rest() -> None:
    revoking: list[threading.Thread] = []
    sink = MemorySink()
    one, next_owner = worker(sink), worker(sink)

    def revoke_once() -> None:
        if not revoking:
            revoking.append(revoke_meanwhile(one))

    sink.during_write = revoke_once
    assert one.take_over(frozenset({FIRST, SECOND}), 0) == {FIRST: 2}
    revoking[0].join(TIMEOUT_S)
    assert one.partitions == set()
    assert next_owner.take_over(frozenset({FIRST, SECOND}), 0) == {FIRST: ON_TOPIC, SECOND: ON_TOPIC}
    assert sink.written == [*all_of(FIRST), *all_of(SECOND)]


def test_partitions_are_given_up_only_when_the_batch_in_hand_is_written() -> None:
    happened: list[str] = []
    revoking: list[threading.Thread] = []
    sink = MemorySink()
    one = worker(sink)
    one.take_over(frozenset({FIRST}), one.epoch)

    def write_slowly() -> None:
        revoking.append(revoke_meanwhile(one, lambda: happened.append("revoked")))
        happened.append("written")

    sink.during_write = write_slowly
    one.write([message(technique(1), ON_TOPIC)])
    revoking[0].join(TIMEOUT_S)
    assert happened == ["written", "revoked"]


def test_what_is_assigned_in_an_epoch_that_has_ended_is_not_taken_over() -> None:
    sink = MemorySink()
    one = worker(sink)
    one.revoke()
    assert one.take_over(frozenset({FIRST}), 0) == {}
    assert (sink.written, one.partitions) == ([], set())


def test_between_writes_nothing_is_done_for_partitions_that_are_gone() -> None:
    one, done = worker(MemorySink()), []
    one.between_writes(lambda: done.append("before"))
    one.take_over(frozenset({FIRST}), one.epoch)
    one.between_writes(lambda: done.append("owned"))
    one.revoke()
    one.between_writes(lambda: done.append("after"))
    assert done == ["owned"]
