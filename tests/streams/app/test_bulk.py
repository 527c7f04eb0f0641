"""The bulk reader and the bulk path: exactly the offsets asked for, whatever was read before."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from schemas.encoding import encode_event
from schemas.errors import Corrupt, RetryLater
from schemas.journal import Tick
from streams.app.catch_up import catch_up, committed_offsets, hand_over
from streams.app.sink import Message, Place
from streams.fetchers.base.publish import event_headers
from tests.flow.material import technique
from transport import kafka as wire
from transport.retry import retry

SIZES = (5_000, 40, 0)
"""Messages in each partition: more than one poll gives, few, none."""
_numbers = itertools.count()


@pytest.fixture(scope="module")
def admin(kafka_bootstrap: str) -> Iterator[KafkaAdminClient]:
    admin = KafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    yield admin
    admin.close()


@pytest.fixture(scope="module")
def writer(kafka_bootstrap: str) -> Iterator[KafkaProducer]:
    writer = wire.producer(kafka_bootstrap)
    yield writer
    writer.close()


@pytest.fixture
def reader(kafka_bootstrap: str) -> Iterator[KafkaConsumer]:
    reader = wire.consumer(kafka_bootstrap)
    yield reader
    reader.close()


@pytest.fixture(scope="module")
def topic(admin: KafkaAdminClient, writer: KafkaProducer) -> str:
    """A topic whose messages are their offsets."""
    return filled(admin, writer)


def filled(admin: KafkaAdminClient, writer: KafkaProducer, sizes: Sequence[int] = SIZES) -> str:
    name = f"bulk.{next(_numbers)}"
    admin.create_topics({name: {"num_partitions": len(sizes), "replication_factor": 1}})
    admin.wait_for_topics([name])
    put(writer, name, sizes)
    return name


def put(writer: KafkaProducer, name: str, sizes: Sequence[int], first: int = 0) -> None:
    for partition, size in enumerate(sizes):
        for offset in range(first, first + size):
            writer.send(name, value=str(offset).encode(), partition=partition)
    writer.flush()


def read(reader: KafkaConsumer, topic: str, *spans: tuple[int, int]) -> list[list[int]]:
    """Offsets per partition in the order in which they come; each message must be the one of its offset."""
    found: list[list[int]] = [[] for _ in spans]
    wanted = {(topic, partition): span for partition, span in enumerate(spans)}
    for messages in wire.read_ranges(reader, wanted):
        assert len({message.partition for message in messages}) == 1
        for message in messages:
            assert int(message.value) == message.offset
            found[message.partition].append(message.offset)
    return found


@pytest.mark.parametrize(
    "spans",
    [
        ((0, 5_000), (0, 40), (0, 0)),
        ((1, 2), (39, 40), (0, 0)),
        ((1_999, 2_001), (0, 0), (0, 0)),
        ((4_999, 5_000), (7, 7), (0, 0)),
        ((30, 20), (0, 1), (0, 0)),
    ],
)
def test_it_reads_half_open_ranges_side_by_side(
    reader: KafkaConsumer, topic: str, spans: Sequence[tuple[int, int]]
) -> None:
    assert read(reader, topic, *spans) == [list(range(*span)) for span in spans]


def test_a_reader_goes_on_with_a_partition_whose_span_ended_before_the_others(
    reader: KafkaConsumer, admin: KafkaAdminClient, writer: KafkaProducer
) -> None:
    """See docs/decisions/2026-11-24-kafka-python-paused-partitions.md."""
    name = filled(admin, writer, (6_000, 6_000))
    for _ in range(2):
        assert read(reader, name, (0, 1_000), (0, 6_000)) == [list(range(1_000)), list(range(6_000))]
    assert read(reader, name, (1_000, 6_000)) == [list(range(1_000, 6_000))]
    put(writer, name, (5,), first=6_000)
    assert read(reader, name, (6_000, 6_005)) == [list(range(6_000, 6_005))]


def test_a_reader_that_was_left_in_the_middle_begins_where_it_is_asked_to(
    reader: KafkaConsumer, topic: str
) -> None:
    for messages in wire.read_range(reader, topic, 0, 0, 5_000):
        assert messages[0].offset == 0
        break
    assert read(reader, topic, (2, 5_000), (0, 40)) == [list(range(2, 5_000)), list(range(40))]


def test_what_retention_took_is_missed_aloud(
    reader: KafkaConsumer, admin: KafkaAdminClient, writer: KafkaProducer
) -> None:
    name = filled(admin, writer, (30,))
    admin.delete_records({TopicPartition(name, 0): 12})
    with pytest.raises(Corrupt, match=rf"{name}/0 begins at offset 12, but offset 3 is needed: .*retention"):
        read(reader, name, (3, 30))
    assert read(reader, name, (12, 30)) == [list(range(12, 30))]


def test_an_end_that_never_comes_is_given_up(
    reader: KafkaConsumer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "READ_TIMEOUT_S", 0.0)
    with pytest.raises(RetryLater, match="nothing for 0 s of"):
        read(reader, topic, (0, 0), (40, 41))


def test_an_outbox_is_settled_when_the_broker_has_everything(
    reader: KafkaConsumer, admin: KafkaAdminClient, writer: KafkaProducer
) -> None:
    name = filled(admin, writer, (0,))
    outbox = wire.RecordProducer(writer)
    for time_ms in range(50):
        outbox.send(name, Tick(time_ms), key="k", partition=0)
    outbox.flush()
    assert wire.end_offset(reader, name, 0) == 50


class Taker:
    """A sink that remembers."""

    def __init__(self, positions: Mapping[Place, int]) -> None:
        self._positions = positions
        self.taken: list[Message] = []

    def positions(self, places: Sequence[Place]) -> Mapping[Place, int]:
        return {place: self._positions.get(place, 0) for place in places}

    def take(self, messages: Sequence[Message]) -> None:
        self.taken += messages


def test_the_bulk_path_takes_what_had_no_effect_and_says_where_agents_go_on(
    reader: KafkaConsumer, topic: str, admin: KafkaAdminClient
) -> None:
    places = [(topic, partition) for partition in range(3)]
    sink = Taker({(topic, 0): 4_900, (topic, 1): 99})  # 99: of a topic that was longer once
    counts: list[int] = []
    ends = catch_up(sink, reader, places, counts.append)
    assert [(m.partition, m.offset) for m in sink.taken] == [(0, offset) for offset in range(4_900, 5_000)]
    assert ends == {(topic, 0): 5_000, (topic, 1): 40, (topic, 2): 0}
    assert sum(counts) == 100

    group = f"group.{next(_numbers)}"
    assert retry(lambda: committed_offsets(admin, group)) == {}
    retry(lambda: hand_over(admin, group, ends))
    assert committed_offsets(admin, group) == ends


def test_a_message_without_a_value_or_headers_is_an_empty_one(
    reader: KafkaConsumer, admin: KafkaAdminClient, writer: KafkaProducer
) -> None:
    name = filled(admin, writer, (0,))
    writer.send(name, key=b"gone", value=None, partition=0)
    writer.send(name, value=b"{}", headers=[("ce_time", b"2024-01-01T00:00:00Z")], partition=0)
    writer.flush()
    sink = Taker({})
    catch_up(sink, reader, [(name, 0)])
    assert [(m.value, m.observed) for m in sink.taken] == [(b"", b""), (b"{}", b"2024-01-01T00:00:00Z")]


def test_the_headers_of_an_event_are_cloudevents() -> None:
    headers: dict[str, Any] = dict(event_headers(encode_event(technique(1)), 1_700_000_000_007))
    assert headers["ce_time"] == b"2023-11-14T22:13:20.007Z"
    assert (headers["ce_specversion"], headers["ce_type"]) == (b"1.0", b"threat.technique.v1")
    assert headers["ce_source"] == b"/feeds/attack-enterprise"
    assert len(headers["ce_id"]) == 32
