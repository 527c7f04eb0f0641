"""How far topics were read, and whether a position is of the topics as they are now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from kafka import TopicPartition

from schemas.errors import BadConfiguration
from streams.fetchers.base.clients import KafkaClients
from transport import kafka as wire


class TopicPosition(msgspec.Struct, frozen=True, array_like=True):
    """How far a topic was read.

    Attributes:
        topic_id: The id that Kafka gave the topic; a topic that is deleted and created again has another.
        offsets: For each partition the offset after the last message that was read.
    """

    topic_id: str
    offsets: tuple[int, ...]


Positions = Mapping[str, TopicPosition]
"""Topic -> how far it was read."""


def end_positions(clients: KafkaClients, topics: Sequence[str]) -> dict[str, TopicPosition]:
    """The ids and end offsets of topics now.

    Args:
        clients: Of the Kafka with the topics.
        topics: Names of the topics.

    Raises:
        BadConfiguration: One of the topics does not exist.
        RetryLater: The broker does not answer.
    """
    with wire.kafka_errors(f"looking up {', '.join(topics)}"):
        with clients.admin() as admin:
            described = {each["name"]: each for each in admin.describe_topics(list(topics))}
        partitions = {topic: len(described.get(topic, {}).get("partitions", ())) for topic in topics}
        if missing := [topic for topic, count in partitions.items() if not count]:
            raise BadConfiguration(
                f"no topic {', '.join(missing)} on {clients.bootstrap}: `sx9 up` makes the topics"
            )
    wanted = [TopicPartition(topic, n) for topic in topics for n in range(partitions[topic])]
    with clients.reader() as reader:
        ends = wire.end_offsets(reader, wanted)
    return {
        topic: TopicPosition(
            str(described[topic]["topic_id"]), tuple(ends[TopicPartition(topic, n)] for n in range(count))
        )
        for topic, count in partitions.items()
    }


def is_before(position: TopicPosition, end: TopicPosition | None) -> bool:
    """Whether a position is of the topic that now ends at `end`: the same id, and no offset beyond the end."""
    if end is None or end.topic_id != position.topic_id or len(end.offsets) < len(position.offsets):
        return False
    return all(read <= last for read, last in zip(position.offsets, end.offsets, strict=False))
