"""The Kafka of a command: the one that runs, or one started for as long as the command takes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from kafka import KafkaConsumer

from streams.local.services import Endpoints, running, services
from streams.settings import Settings
from transport.kafka import consumer
from transport.topics import create_topics


@contextlib.contextmanager
def kafka_with_topics(settings: Settings) -> Iterator[Endpoints]:
    """A Kafka that answers and has all topics, while the block runs.

    Args:
        settings: Name a Kafka, or the state folder in which one runs or is started.

    Yields:
        Its address. There is no Neo4j.

    Raises:
        RetryLater: Kafka does not answer.
        BadConfiguration: Kafka can't be started, or a topic has too few partitions.
    """
    found = running(settings, neo4j=False)
    with contextlib.nullcontext(found) if found else services(settings, neo4j=False) as endpoints:
        create_topics(endpoints.kafka_bootstrap, settings.replication_factor)
        yield endpoints


@contextlib.contextmanager
def topic_reader(settings: Settings) -> Iterator[KafkaConsumer]:
    """A consumer without a group on the Kafka of `kafka_with_topics`, which raises the same errors."""
    with kafka_with_topics(settings) as endpoints:
        reader = consumer(endpoints.kafka_bootstrap)
        try:
            yield reader
        finally:
            reader.close()
