"""Topics that another hand made: their partitions are used, their settings reported."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator

import pytest
from kafka import KafkaAdminClient, KafkaConsumer

from schemas.errors import BadConfiguration
from schemas.topics import DEAD_LETTERS, JOURNAL, TECHNIQUES, TEMPLATES, TOPICS, TRIGGERS, VERSIONS, WINDOWS, Topic
from streams.local.services import services
from streams.settings import load_settings
from transport.admin import admin_client
from transport.kafka import consumer
from transport.topics import TopicIds, _configs, create_topics, partitions_of, retention_s


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Kafka without topics."""
    settings = load_settings(state_dir=tmp_path_factory.mktemp("topics"), kafka_bootstrap=None)
    with services(settings, neo4j=False) as endpoints:
        yield endpoints.kafka_bootstrap


def test_topics_with_more_partitions_and_other_settings_are_used_and_reported(
    bootstrap: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = {
        TECHNIQUES.name: {
            "num_partitions": 12,
            "configs": {"retention.ms": "604800000", "retention.bytes": "1000000"},
        },
        JOURNAL.name: {"num_partitions": 7, "configs": {"retention.ms": "-1"}},
        VERSIONS.name: {"num_partitions": 2, "configs": {"retention.ms": "-1"}},
    }
    with contextlib.closing(admin_client(bootstrap)) as admin, contextlib.closing(consumer(bootstrap)) as reader:
        admin.create_topics({name: {"replication_factor": 1, **spec} for name, spec in made.items()})
        admin.wait_for_topics(list(made))
        with caplog.at_level(logging.WARNING, "transport.topics"):
            create_topics(bootstrap)
        reported = [message for message in caplog.messages if message.startswith("topic ")]
        assert [message.split(", it should be ")[0] for message in reported] == [
            f"topic {TECHNIQUES.name} has retention.ms=604800000",
            f"topic {TECHNIQUES.name} has retention.bytes=1000000",
        ]
        assert reported[1].endswith(
            f"kafka-configs --alter --topic {TECHNIQUES.name} --add-config retention.bytes=-1"
        )
        kept_s = retention_s(admin)
        assert (kept_s[TECHNIQUES.name], kept_s[JOURNAL.name]) == (604_800, math.inf)
        assert len(kept_s) == len(TOPICS)
        for topic, number in {TECHNIQUES: 12, TEMPLATES: 4, DEAD_LETTERS: 1, VERSIONS: 2}.items():
            assert [partition for _, partition in partitions_of(reader, [topic])] == list(range(number))
        for topic in (JOURNAL, WINDOWS, TRIGGERS):
            assert [partition for _, partition in partitions_of(reader, [topic])] == [0, 1, 2]


def test_topics_with_fewer_partitions_and_missing_topics_are_refused(bootstrap: str) -> None:
    create_topics(bootstrap)
    with contextlib.closing(admin_client(bootstrap)) as admin, contextlib.closing(consumer(bootstrap)) as reader:
        with pytest.raises(BadConfiguration, match=r"there is no topic threat\.nothing\.v1"):
            partitions_of(reader, [Topic(name="threat.nothing.v1", key="", partitions=1, record=int)])
        admin.delete_topics([TEMPLATES.name])
        while TEMPLATES.name in admin.list_topics():
            pass
        admin.create_topics({TEMPLATES.name: {"num_partitions": 3, "replication_factor": 1}})
        with pytest.raises(BadConfiguration, match=rf"topic {TEMPLATES.name} has 3 partitions, 4 are needed"):
            create_topics(bootstrap)


def test_a_broker_that_does_not_know_a_new_topic_yet_is_asked_again(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a cluster, in which another broker answers each question."""
    with contextlib.closing(admin_client(bootstrap)) as admin, contextlib.closing(consumer(bootstrap)) as reader:
        if TEMPLATES.name in admin.list_topics():
            admin.delete_topics([TEMPLATES.name])
        while TEMPLATES.name in admin.list_topics():
            pass
        describe, partitions = KafkaAdminClient.describe_topics, KafkaConsumer.partitions_for_topic
        lagging = {"describe": 2, "partitions": 2}

        def answers(name: str) -> bool:
            lagging[name] -= 1
            return lagging[name] < 0

        def described(client: KafkaAdminClient, topics: list[str] | None = None) -> list[dict[str, object]]:
            found: list[dict[str, object]] = describe(client, topics)
            if answers("describe"):
                return found
            return [{**each, "partitions": []} if each["name"] == TEMPLATES.name else each for each in found]

        def numbers(client: KafkaConsumer, topic: str) -> set[int]:
            found: set[int] = partitions(client, topic)
            return found if answers("partitions") else set()

        monkeypatch.setattr(KafkaAdminClient, "wait_for_topics", lambda *_: None)  # the broker it asks knows them
        monkeypatch.setattr(KafkaAdminClient, "describe_topics", described)
        monkeypatch.setattr(KafkaConsumer, "partitions_for_topic", numbers)
        create_topics(bootstrap)
        assert len(partitions_of(reader, [TEMPLATES])) == TEMPLATES.partitions
        lagging["describe"] = 2
        assert set(TopicIds(admin, [TEMPLATES])) == {TEMPLATES.name}
        assert max(lagging.values()) < 0


def test_new_topics_do_not_depend_on_the_defaults_of_the_broker() -> None:
    assert {_configs(topic, 1)["retention.bytes"] for topic in TOPICS} == {"-1"}
    replicas = (1, 2, 3, 5)
    assert [_configs(TECHNIQUES, number)["min.insync.replicas"] for number in replicas] == ["1", "1", "2", "2"]
