"""Creates the topics of `schemas.topics.TOPICS`, lists their partitions, and sees when one is made again."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource
from kafka.errors import ClusterAuthorizationFailedError, TopicAuthorizationFailedError

from schemas.errors import BadConfiguration, RestartRequired, RetryLater
from schemas.topics import TOPICS, Topic
from transport.admin import admin_client
from transport.kafka import kafka_errors

log = logging.getLogger(__name__)

SPREAD_S = 5.0
"""A topic that one broker has is known to all after this time, seconds; in KRaft mostly after less than one."""

_LOOK_AGAIN_S = 0.1

_Found = TypeVar("_Found")


def partitions_of(reader: KafkaConsumer, topics: Iterable[Topic]) -> tuple[TopicPartition, ...]:
    """The partitions of some topics, in order: all that are there, and of a `by_model` topic those of the models.

    Raises:
        BadConfiguration: One of the topics does not exist.
        RetryLater: The broker does not answer.
    """
    found = []
    for topic in topics:
        with kafka_errors(f"looking up the partitions of {topic.name}"):
            numbers = sorted(_looked_up(partial(reader.partitions_for_topic, topic.name), bool))
        if not numbers:
            raise BadConfiguration(f"there is no topic {topic.name}: `sx9 up` makes the topics")
        found += [TopicPartition(topic.name, n) for n in numbers if n < topic.partitions or not topic.by_model]
    return tuple(found)


class TopicIds(Mapping[str, str]):
    """The ids that Kafka gave to topics, by name, as they were when this was made.

    A topic that is deleted and made again gets another id. What was read from it, or is known of it, says nothing
    about the new one.

    Args:
        admin: An admin client.
        topics: The topics.

    Raises:
        BadConfiguration: One of them does not exist.
        RetryLater: The broker does not answer.
    """

    def __init__(self, admin: KafkaAdminClient, topics: Iterable[Topic]) -> None:
        self._admin = admin
        self._names = [topic.name for topic in topics]
        self._ids = _looked_up(self._ids_now, lambda ids: len(ids) == len(set(self._names)))
        if missing := [name for name in self._names if name not in self._ids]:
            raise BadConfiguration(f"there is no topic {', '.join(missing)}: `sx9 up` makes the topics")

    def __getitem__(self, name: str) -> str:
        return self._ids[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def check(self) -> None:
        """Make sure that the topics are still the same. Messages that were read before are then of these topics.

        Raises:
            RestartRequired: One of them was deleted, or deleted and made again. A new process reads it anew.
            RetryLater: The broker does not answer.
        """
        now = self._ids_now()
        if changed := [name for name in self._names if now.get(name) != self._ids[name]]:
            raise RestartRequired(
                f"topic {', '.join(changed)} was deleted, and may have been made again: this process has to be "
                "started again, and then reads the new one from its beginning"
            )

    def _ids_now(self) -> dict[str, str]:
        with kafka_errors(f"looking up {', '.join(self._names)}"):
            described = self._admin.describe_topics(self._names)
        return {found["name"]: str(found["topic_id"]) for found in described if found["partitions"]}


def _looked_up(look: Callable[[], _Found], is_whole: Callable[[_Found], bool]) -> _Found:
    """What `look` finds, as soon as it is whole, or after `SPREAD_S`.

    Each question may be answered by another broker, and one of them may not know yet of a topic that was just made.
    """
    until = time.monotonic() + SPREAD_S
    while not is_whole(found := look()) and time.monotonic() < until:
        time.sleep(_LOOK_AGAIN_S)
    return found


def retention_s(admin: KafkaAdminClient) -> dict[str, float]:
    """Topic -> how long Kafka keeps its records, seconds; infinite: for ever. Empty if it may not be read.

    Raises:
        RetryLater: The broker does not answer.
    """
    with kafka_errors("reading the retention of topics"):
        found = _settings_of_topics(admin)
    values = {name: int(settings["retention.ms"]["value"]) for name, settings in found.items()}
    return {name: value / 1000 if value >= 0 else math.inf for name, value in values.items()}


def _settings_of_topics(admin: KafkaAdminClient) -> dict[str, Any]:
    """Topic -> its settings; empty if this client may not read them."""
    resources = [ConfigResource("topic", topic.name, None) for topic in TOPICS]
    try:
        found: dict[str, Any] = admin.describe_configs(resources, config_filter="all")["topic"]
    except (TopicAuthorizationFailedError, ClusterAuthorizationFailedError) as error:
        log.info("the settings of topics can't be read and are not checked (%s)", error)
        return {}
    return found


def create_topics(bootstrap: str, replication_factor: int = 1) -> None:
    """Create the missing topics. Existing topics stay as they are; the log reports settings that can lose records.

    Args:
        bootstrap: host:port of the broker.
        replication_factor: Replicas of each new topic.

    Raises:
        RetryLater: The broker does not answer, or one of several does not know the topics yet.
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
        "configs": _configs(topic, replication_factor),
    }


def _configs(topic: Topic, replication_factor: int) -> dict[str, str]:
    """The settings of a topic that keep what it holds, whatever the defaults of the broker are.

    With three replicas or more, two must have a record before it counts as written, so that no broker holds the
    only copy. With two, that would stop all writing whenever one of them is away.
    """
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(topic.retention_ms),
        "retention.bytes": str(topic.retention_bytes),
        "min.insync.replicas": "2" if replication_factor >= 3 else "1",
    }


def _check(admin: KafkaAdminClient) -> None:
    """Refuse topics with fewer partitions than needed, and report those with other settings."""
    described = _looked_up(partial(_described, admin), lambda found: len(found) == len(TOPICS))
    if unknown := sorted({topic.name for topic in TOPICS} - set(described)):
        raise RetryLater(
            f"topic {', '.join(unknown)} was made, but not every broker knows it after {SPREAD_S:g} s; "
            "check that all brokers run and try again"
        )
    for topic in TOPICS:
        found = len(described[topic.name]["partitions"])
        if found < topic.partitions:
            raise BadConfiguration(
                f"topic {topic.name} has {found} partitions, {topic.partitions} are needed: "
                f"add partitions (kafka-topics --alter --partitions {topic.partitions}) or use another Kafka"
            )
    settings = _settings_of_topics(admin)
    for topic in TOPICS if settings else ():
        replicas = len(described[topic.name]["partitions"][0]["replica_nodes"])
        _report_settings(topic.name, _configs(topic, replicas), settings[topic.name])


def _described(admin: KafkaAdminClient) -> dict[str, dict[str, Any]]:
    """Topic -> its description, of those that the broker knows which answers."""
    described = admin.describe_topics([topic.name for topic in TOPICS])
    return {found["name"]: found for found in described if found["partitions"]}


def _report_settings(topic: str, wanted: Mapping[str, str], found: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        if name in found and found[name]["value"] != value:
            log.warning(
                "topic %s has %s=%s, it should be %s so that nothing is lost: kafka-configs --alter --topic %s "
                "--add-config %s=%s", topic, name, found[name]["value"], value, topic, name, value,
            )  # fmt: skip
