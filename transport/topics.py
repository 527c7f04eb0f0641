"""Creates the topics of `schemas.topics.TOPICS`, and lists their partitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kafka import KafkaAdminClient, TopicPartition

from schemas.errors import BadConfiguration
from schemas.topics import TOPICS, Topic
from transport.admin import admin_client
from transport.kafka import kafka_errors


def partitions_of(topics: Sequence[Topic]) -> tuple[TopicPartition, ...]:
    """All partitions of some topics, in order.

    >>> from schemas.topics import DEAD_LETTERS
    >>> partitions_of([DEAD_LETTERS])
    (TopicPartition(topic='threat.dead-letters.v1', partition=0),)
    """
    return tuple(TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions))


def create_topics(bootstrap: str, replication_factor: int = 1) -> None:
    """Create the missing topics. Existing topics stay as they are.

    Args:
        bootstrap: host:port of the broker.
        replication_factor: Replicas of each new topic.

    Raises:
        RetryLater: The broker does not answer.
        BadConfiguration: A topic exists with too few partitions.
    """
    admin = admin_client(bootstrap)
    try:
        with kafka_errors("creating topics"):
            existing = set(admin.list_topics())
            missing = {t.name: _spec(t, replication_factor) for t in TOPICS if t.name not in existing}
            if missing:
                admin.create_topics(missing, raise_errors=False)  # another process may be creating them too
                admin.wait_for_topics(list(missing))
            _check(admin)
    finally:
        admin.close()


def _spec(topic: Topic, replication_factor: int) -> dict[str, Any]:
    return {
        "num_partitions": topic.partitions,
        "replication_factor": replication_factor,
        "configs": {"retention.ms": str(topic.retention_ms), "cleanup.policy": "delete"},
    }


def _check(admin: KafkaAdminClient) -> None:
    """Refuse topics with fewer partitions than needed."""
    described = admin.describe_topics([topic.name for topic in TOPICS])
    partitions = {found["name"]: len(found["partitions"]) for found in described}
    for topic in TOPICS:
        found = partitions.get(topic.name, 0)
        if found < topic.partitions:
            raise BadConfiguration(
                f"topic {topic.name} has {found} partitions, {topic.partitions} are needed: "
                f"add partitions (kafka-topics --alter --partitions {topic.partitions}) or use another Kafka"
            )
