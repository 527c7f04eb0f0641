"""The Kafka of a command: the one that runs, or one started for as long as the command takes; and its archive."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from kafka import KafkaConsumer

from schemas.errors import BadConfiguration
from schemas.topics import TOPICS
from streams.local.services import Endpoints, running, services
from streams.settings import Settings
from transport.admin import admin_client
from transport.archive.reading import Archive
from transport.kafka import consumer
from transport.storage import Storage, storage_at
from transport.topics import TopicIds, create_topics


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
    """A consumer without a group on the Kafka of `kafka_with_topics`, which raises the same errors.

    What retention has deleted from the topics it reads from the archive, if one is named.
    """
    with kafka_with_topics(settings) as endpoints:
        reader = consumer(endpoints.kafka_bootstrap, open_archive(settings, endpoints.kafka_bootstrap))
        try:
            yield reader
        finally:
            reader.close()


def storage_of(settings: Settings) -> Storage:
    """The storage of the archive.

    Raises:
        BadConfiguration: None is named, or it can't be used.
    """
    if not settings.archive_url:
        raise BadConfiguration(
            "no archive is named: set SX9_ARCHIVE_URL, or give --to, a folder or a URL such as s3://bucket/archive"
        )
    return storage_at(settings.archive_url)


def open_archive(settings: Settings, bootstrap: str) -> Archive | None:
    """The archive of the topics of a Kafka; None if none is named.

    Raises:
        BadConfiguration: It can't be used, or a topic does not exist.
        RetryLater: Kafka does not answer.
    """
    if not settings.archive_url:
        return None
    with contextlib.closing(admin_client(bootstrap)) as admin:
        return Archive(storage_of(settings), dict(TopicIds(admin, TOPICS)))
