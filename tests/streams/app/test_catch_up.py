"""The bulk path: what the sink does not have is written to it, and the agent continues from its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from streams.app.catch_up import catch_up
from streams.app.sink import ConsumedMessage
from tests.transport.filled_topics import filled_topic


class MemorySink:
    """A sink that keeps the messages."""

    def __init__(self, positions: Mapping[TopicPartition, int]) -> None:
        self._positions = positions
        self.written: list[ConsumedMessage] = []

    def positions(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {partition: self._positions.get(partition, 0) for partition in partitions}

    def write(self, messages: Sequence[ConsumedMessage]) -> None:
        self.written += messages


def test_the_bulk_path_writes_what_the_sink_does_not_have_and_returns_where_the_agent_continues(
    reader: KafkaConsumer, admin: KafkaAdminClient, writer: KafkaProducer
) -> None:
    topic = filled_topic(admin, writer, (5_000, 40, 0))
    first, second, empty = (TopicPartition(topic, number) for number in range(3))
    sink = MemorySink({first: 4_900, second: 99})  # 99: the topic was longer once
    counts: list[int] = []
    ends = catch_up(sink, reader, [first, second, empty], counts.append)
    assert [(m.partition, m.offset) for m in sink.written] == [(0, offset) for offset in range(4_900, 5_000)]
    assert ends == {first: 5_000, second: 40, empty: 0}
    assert sum(counts) == 100


def test_a_message_without_value_or_headers_has_empty_fields(
    reader: KafkaConsumer, admin: KafkaAdminClient, writer: KafkaProducer
) -> None:
    name = filled_topic(admin, writer, (0,))
    writer.send(name, key=b"gone", value=None, partition=0)
    writer.send(name, value=b"{}", headers=[("ce_time", b"2024-01-01T00:00:00Z")], partition=0)
    writer.flush()
    sink = MemorySink({})
    catch_up(sink, reader, [TopicPartition(name, 0)])
    assert [(m.value, m.observed) for m in sink.written] == [(b"", b""), (b"{}", b"2024-01-01T00:00:00Z")]
