"""Creates the topics of `schemas.topics.TOPICS`; what is there already stays as it is."""

from __future__ import annotations

from typing import Any

from kafka import KafkaAdminClient

from schemas.errors import BadConfiguration
from schemas.topics import TOPICS, Topic
from transport.kafka import kafka_errors


def create_topics(bootstrap: str, replication_factor: int = 1) -> None:
    """Create the topics that are missing.

    Args:
        bootstrap: host:port of the broker.
        replication_factor: Replicas of each new topic.

    Raises:
        RetryLater: The broker does not answer.
        BadConfiguration: A topic is there with too few partitions.
    """
    with kafka_errors(f"creating topics at {bootstrap}"):
        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        with kafka_errors("creating topics"):
            missing = {
                t.name: _spec(t, replication_factor) for t in TOPICS if t.name not in set(admin.list_topics())
            }
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
    described = admin.describe_topics([topic.name for topic in TOPICS])
    partitions = {found["name"]: len(found["partitions"]) for found in described}
    for topic in TOPICS:
        found = partitions.get(topic.name, 0)
        if found < topic.partitions:
            raise BadConfiguration(
                f"topic {topic.name} has {found} partitions, {topic.partitions} are needed: "
                f"add partitions (kafka-topics --alter --partitions {topic.partitions}) or use another Kafka"
            )
