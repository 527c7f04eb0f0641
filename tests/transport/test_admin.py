"""Committed offsets of consumer groups."""

from __future__ import annotations

import contextlib

from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from tests.transport.filled_topics import filled_topic, new_name
from transport.admin import alter_group_offsets, committed_offsets
from transport.kafka import consumer
from transport.retry import retry


def test_altered_offsets_are_the_committed_offsets_of_the_group(
    admin: KafkaAdminClient, writer: KafkaProducer
) -> None:
    topic, group = filled_topic(admin, writer, (5, 4, 0)), new_name()
    offsets = {TopicPartition(topic, number): offset for number, offset in enumerate((5, 2, 0))}
    assert retry(lambda: committed_offsets(admin, group)) == {}
    retry(lambda: alter_group_offsets(admin, group, offsets))
    assert committed_offsets(admin, group) == offsets


def test_a_group_with_an_active_member_keeps_its_offsets(
    kafka_bootstrap: str, admin: KafkaAdminClient, writer: KafkaProducer
) -> None:
    topic, group = filled_topic(admin, writer, (5,)), new_name()
    partition = TopicPartition(topic, 0)
    retry(lambda: alter_group_offsets(admin, group, {partition: 3}))
    with contextlib.closing(consumer(kafka_bootstrap, group_id=group)) as member:
        member.subscribe([topic])
        while not member.assignment():
            member.poll(timeout_ms=100)
        alter_group_offsets(admin, group, {partition: 1})
        assert committed_offsets(admin, group) == {partition: 3}
