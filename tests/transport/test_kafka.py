"""Reading ranges of offsets and writing records: exactly the requested offsets, whatever was read before."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_client_errors

from schemas.codec import MAX_RECORD_BYTES, decode
from schemas.errors import BadConfiguration, BadRecord, Corrupt, RestartRequired, RetryLater
from schemas.journal import Manual, Tick
from schemas.topics import Topic
from tests.transport.filled_topics import append, filled_topic, in_transaction, new_name
from transport import kafka
from transport.kafka import NO_DELIVERY_TIMEOUT_MS, RecordProducer, end_offset, producer, read_range, read_ranges
from transport.partition_log import KafkaPartitionLog, last_record

SIZES = (5_000, 40, 0)
"""Messages in each partition: more than one poll returns, a few, none."""


@pytest.fixture(scope="module")
def topic(admin: KafkaAdminClient, writer: KafkaProducer) -> str:
    return filled_topic(admin, writer, SIZES)


def read(reader: KafkaConsumer, topic: str, *ranges: tuple[int, int]) -> list[list[int]]:
    """The offsets read from each partition, in order; the value of each message must be its offset."""
    found: list[list[int]] = [[] for _ in ranges]
    wanted = {TopicPartition(topic, partition): offsets for partition, offsets in enumerate(ranges)}
    for messages in read_ranges(reader, wanted):
        assert len({message.partition for message in messages}) == 1
        for message in messages:
            assert int(message.value) == message.offset
            found[message.partition].append(message.offset)
    return found


@pytest.mark.parametrize(
    "ranges",
    [
        ((0, 5_000), (0, 40), (0, 0)),
        ((1, 2), (39, 40), (0, 0)),
        ((1_999, 2_001), (0, 0), (0, 0)),
        ((4_999, 5_000), (7, 7), (0, 0)),
        ((30, 20), (0, 1), (0, 0)),
    ],
)
def test_half_open_ranges_of_several_partitions_are_read_at_the_same_time(
    reader: KafkaConsumer, topic: str, ranges: Sequence[tuple[int, int]]
) -> None:
    assert read(reader, topic, *ranges) == [list(range(*offsets)) for offsets in ranges]


def test_a_partition_whose_range_ended_before_the_others_can_be_read_again(
    reader: KafkaConsumer, admin: KafkaAdminClient, writer: KafkaProducer
) -> None:
    """See docs/decisions/2026-11-24-kafka-python-paused-partitions.md."""
    name = filled_topic(admin, writer, (6_000, 6_000))
    for _ in range(2):
        assert read(reader, name, (0, 1_000), (0, 6_000)) == [list(range(1_000)), list(range(6_000))]
    assert read(reader, name, (1_000, 6_000)) == [list(range(1_000, 6_000))]
    append(writer, name, (5,), first=6_000)
    assert read(reader, name, (6_000, 6_005)) == [list(range(6_000, 6_005))]


def test_a_reader_that_was_abandoned_half_way_starts_at_the_requested_offset(
    reader: KafkaConsumer, topic: str
) -> None:
    for messages in read_range(reader, topic, 0, 0, 5_000):
        assert messages[0].offset == 0
        break
    assert read(reader, topic, (2, 5_000), (0, 40)) == [list(range(2, 5_000)), list(range(40))]


def test_a_read_goes_on_where_it_was_after_another_read_of_the_same_reader(
    reader: KafkaConsumer, topic: str
) -> None:
    found: list[int] = []
    for messages in read_range(reader, topic, 0, 0, 5_000):
        found += [message.offset for message in messages]
        assert read(reader, topic, (0, 0), (3, 7)) == [[], list(range(3, 7))]
        assert read(reader, topic, (10, 20)) == [list(range(10, 20))]
    assert found == list(range(5_000))


@pytest.mark.parametrize("commit", [True, False])
def test_offsets_without_a_message_are_read_past(
    kafka_bootstrap: str, reader: KafkaConsumer, admin: KafkaAdminClient, writer: KafkaProducer, commit: bool
) -> None:
    name = filled_topic(admin, writer, (3,))
    in_transaction(kafka_bootstrap, name, (3, 4), commit=commit)
    there = [0, 1, 2, 3, 4] if commit else [0, 1, 2]
    assert end_offset(reader, name, 0) == 6
    assert read(reader, name, (0, 6)) == [there]
    assert read(reader, name, (5, 6)) == [[]], "the marker alone"
    append(writer, name, (2,), first=6)
    in_transaction(kafka_bootstrap, name, (8,), commit=commit)
    assert read(reader, name, (0, 10)) == [[*there, 6, 7, *([8] if commit else [])]]


def test_messages_of_an_open_transaction_are_after_the_end(
    kafka_bootstrap: str, reader: KafkaConsumer, admin: KafkaAdminClient, writer: KafkaProducer
) -> None:
    name = filled_topic(admin, writer, (3,))
    with contextlib.closing(producer(kafka_bootstrap, transactional_id=name)) as transactional:
        transactional.init_transactions()
        transactional.begin_transaction()
        transactional.send(name, value=b"3", partition=0).get(timeout=30)
        assert end_offset(reader, name, 0) == 3
        transactional.abort_transaction()


def test_the_last_record_is_found_before_markers_and_messages_without_a_record(
    kafka_bootstrap: str, reader: KafkaConsumer, admin: KafkaAdminClient, writer: KafkaProducer
) -> None:
    topic = Topic(name=filled_topic(admin, writer, (0,)), key="", partitions=1, record=Tick)
    log = KafkaPartitionLog(reader, topic, 0)
    assert last_record(log, Tick) is None
    ticks = RecordProducer(writer)
    for time_ms in (1, 2):
        ticks.send(topic.name, Tick(time_ms), key="k", partition=0)
    ticks.flush()
    for value in (None, b"{nonsense"):
        writer.send(topic.name, key=b"k", value=value, partition=0)
    writer.flush()
    in_transaction(kafka_bootstrap, topic.name, (4,), commit=False)
    assert log.end() == 6
    found = last_record(log, Tick)
    assert found is not None
    assert (found[0].offset, found[1]) == (1, Tick(2))


def test_records_deleted_by_retention_raise_corrupt(
    reader: KafkaConsumer, admin: KafkaAdminClient, writer: KafkaProducer
) -> None:
    name = filled_topic(admin, writer, (30,))
    admin.delete_records({TopicPartition(name, 0): 12})
    with pytest.raises(Corrupt, match=rf"{name}/0 begins at offset 12, but offset 3 is needed: .*retention"):
        read(reader, name, (3, 30))
    assert read(reader, name, (12, 30)) == [list(range(12, 30))]


def test_reading_fails_if_the_end_offset_is_never_reached(
    reader: KafkaConsumer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "READ_TIMEOUT_S", 0.0)
    with pytest.raises(RetryLater, match="no progress within 0 s in"):
        read(reader, topic, (0, 0), (40, 41))


def test_flush_returns_when_the_broker_has_all_records(
    reader: KafkaConsumer, admin: KafkaAdminClient, writer: KafkaProducer
) -> None:
    name = filled_topic(admin, writer, (0,))
    record_producer = RecordProducer(writer)
    for time_ms in range(50):
        record_producer.send(name, Tick(time_ms), key="k", partition=0)
    record_producer.flush()
    assert end_offset(reader, name, 0) == 50


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (kafka_client_errors.KafkaTimeoutError("no answer"), RetryLater),
        (kafka_client_errors.NotLeaderForPartitionError(), RetryLater),
        (kafka_client_errors.KafkaStorageError(), RetryLater),
        (kafka_client_errors.UnknownError(), RestartRequired),
        (kafka_client_errors.OutOfOrderSequenceNumberError(), RestartRequired),
        (kafka_client_errors.KafkaError("in a fatal state"), RestartRequired),
        (kafka_client_errors.MessageSizeTooLargeError(), BadConfiguration),
    ],
)
def test_only_errors_that_kafka_calls_retriable_are_to_be_retried(error: Exception, raised: type) -> None:
    with pytest.raises(raised, match="while sending"), kafka.kafka_errors("sending"):
        raise error


def test_a_record_that_does_not_fit_a_message_is_refused_before_it_is_sent(writer: KafkaProducer) -> None:
    with pytest.raises(BadRecord, match=f"too-large: the manual has .* the limit is {MAX_RECORD_BYTES}"):
        RecordProducer(writer).send(
            "any", Manual(request="x" * MAX_RECORD_BYTES, reason="", time_ms=0), key="k", partition=0
        )


def test_after_a_refused_record_no_later_one_is_written_and_its_failure_is_reported_once(
    reader: KafkaConsumer, admin: KafkaAdminClient, kafka_bootstrap: str
) -> None:
    """A journal without a gap: a later event in it would make the refused one look like a redelivery."""
    name = new_name()
    admin.create_topics(
        {name: {"num_partitions": 1, "replication_factor": 1, "configs": {"max.message.bytes": "20000"}}}
    )
    admin.wait_for_topics([name])
    # Not compressible: Kafka compares the compressed size.
    large = "".join(map(chr, (33 + (n * n * 7919 + n // 93) % 90 for n in range(60_000))))
    with contextlib.closing(
        producer(kafka_bootstrap, delivery_timeout_ms=NO_DELIVERY_TIMEOUT_MS, compression_type=None)
    ) as client:
        records = RecordProducer(client)
        for number in range(600):
            reason = large if number == 300 else "small" * 100
            records.send(name, Manual(request=str(number), reason=reason, time_ms=0), key="k", partition=0)
        with pytest.raises(BadConfiguration, match=r"set max\.message\.bytes of the topic"):
            records.flush()
        records.flush()
        records.send(name, Tick(1), key="k", partition=0)
        with pytest.raises((BadConfiguration, RestartRequired)):
            records.flush()
    written = [decode(m.value, Manual).request for batch in read_range(reader, name, 0, 0) for m in batch]
    assert written == [str(number) for number in range(len(written))]
    assert len(written) <= 300
