"""Fixtures for all tests: a real Kafka and a real Neo4j, started once a session and only if asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streams.local.services import Endpoints, services
from streams.settings import Settings, load_settings

if TYPE_CHECKING:
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer


@pytest.fixture(scope="session")
def service_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings with a state folder of this session's own."""
    return load_settings(state_dir=tmp_path_factory.mktemp("services"))


@pytest.fixture(scope="session")
def kafka(service_settings: Settings) -> Iterator[Endpoints]:
    """A Kafka for the session: the local one, or the one that SX9_KAFKA_BOOTSTRAP names."""
    with services(service_settings, neo4j=False) as endpoints:
        yield endpoints


@pytest.fixture(scope="session")
def neo4j(service_settings: Settings) -> Iterator[Endpoints]:
    """A Neo4j for the session: the local one, or the one that SX9_NEO4J_URI names."""
    with services(service_settings, kafka=False) as endpoints:
        yield endpoints


@pytest.fixture(scope="session")
def kafka_bootstrap(kafka: Endpoints) -> str:
    """host:port of the session's Kafka."""
    return kafka.kafka_bootstrap


@pytest.fixture(scope="session")
def admin(kafka_bootstrap: str) -> Iterator[KafkaAdminClient]:
    """An admin client of the session's Kafka."""
    from transport.admin import admin_client  # only in tests that need it, since it is slow to import

    with contextlib.closing(admin_client(kafka_bootstrap)) as client:
        yield client


@pytest.fixture(scope="session")
def writer(kafka_bootstrap: str) -> Iterator[KafkaProducer]:
    """A producer to the session's Kafka."""
    from transport.kafka import producer

    with contextlib.closing(producer(kafka_bootstrap)) as client:
        yield client


@pytest.fixture
def reader(kafka_bootstrap: str) -> Iterator[KafkaConsumer]:
    """A consumer of the session's Kafka, without a group."""
    from transport.kafka import consumer

    with contextlib.closing(consumer(kafka_bootstrap)) as client:
        yield client


@pytest.fixture(scope="session")
def neo4j_endpoint(neo4j: Endpoints) -> Endpoints:
    """Address, user and password of the session's Neo4j."""
    return neo4j


@pytest.fixture(scope="session")
def endpoints(kafka: Endpoints, neo4j: Endpoints) -> Endpoints:
    """Both."""
    return Endpoints(kafka.kafka_bootstrap, neo4j.neo4j_uri, neo4j.neo4j_user, neo4j.neo4j_password)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A state folder for one test."""
    return tmp_path / "state"
