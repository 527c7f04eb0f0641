"""Committed offsets of consumer groups."""

from __future__ import annotations

import contextlib

from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from tests.transport.filled_topics import filled_topic, new_name
from transport.admin import committed_offsets
from transport.kafka import consumer
from transport.retry import retry


def test_the_committed_offsets_of_a_group_are_those_that_a_member_committed(
    kafka_bootstrap: str, admin: KafkaAdminClient, writer: KafkaProducer
) -> None:
    topic, group = filled_topic(admin, writer, (5, 4, 0)), new_name()
    offsets = {TopicPartition(topic, number): offset for number, offset in enumerate((5, 2, 0))}
    assert retry(lambda: committed_offsets(admin, group)) == {}
    with contextlib.closing(consumer(kafka_bootstrap, group_id=group)) as member:
        member.assign(list(offsets))
        member.commit({partition: OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()})
    assert committed_offsets(admin, group) == offsets
