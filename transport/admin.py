"""Kafka's admin client, and the committed offsets of consumer groups."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import ClusterAuthorizationFailedError, TopicAuthorizationFailedError

from transport.kafka import MESSAGE_BYTES, kafka_errors
from transport.kafka_login import client_settings

log = logging.getLogger(__name__)

_MAX_MESSAGE_BYTES = "max.message.bytes"


def admin_client(bootstrap: str) -> KafkaAdminClient:
    """An admin client; the caller closes it.

    Raises:
        RetryLater: No broker answers at `bootstrap` (host:port).
    """
    with kafka_errors(f"connecting to {bootstrap}"):
        return KafkaAdminClient(bootstrap_servers=bootstrap, **client_settings(bootstrap))


def committed_offsets(admin: KafkaAdminClient, group: str) -> dict[TopicPartition, int]:
    """The committed offsets of a consumer group; empty for a group that does not exist.

    Raises:
        RetryLater: The broker does not answer, or has not loaded its groups yet.
    """
    with kafka_errors(f"reading the offsets of {group}"):
        offsets = admin.list_group_offsets({group: None})[group]
    return {partition: meta.offset for partition, meta in offsets.items() if meta.offset >= 0}


def max_message_bytes(admin: KafkaAdminClient, topics: Sequence[str]) -> dict[str, int]:
    """Topic -> its `max.message.bytes`, or that of the broker where the topic has none; bytes of a packed batch.

    Kafka's default is taken for topics whose settings this client may not read.

    Raises:
        RetryLater: The broker does not answer.
    """
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic, [_MAX_MESSAGE_BYTES]) for topic in topics]
    with kafka_errors("reading the settings of topics"):
        try:
            found = admin.describe_configs(resources, config_filter="all")
        except (TopicAuthorizationFailedError, ClusterAuthorizationFailedError) as error:
            log.info("the settings of topics can't be read (%s): %d bytes are assumed", error, MESSAGE_BYTES)
            return dict.fromkeys(topics, MESSAGE_BYTES)
    values = {topic: settings.get(_MAX_MESSAGE_BYTES) for topic, settings in found.get("topic", {}).items()}
    return {topic: int(value["value"]) if (value := values.get(topic)) else MESSAGE_BYTES for topic in topics}
