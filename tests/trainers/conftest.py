"""The tiny base model, and a Kafka whose topics are empty."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streams.local.services import services
from streams.settings import load_settings
from trainers.bases.resolve import Base, resolve

if TYPE_CHECKING:
    from tests.forks import Forks


@pytest.fixture(scope="session")
def models_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for converted base models, of this session's own."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny(models_cache: Path) -> Base:
    """A base model of two layers and 32 dimensions."""
    return resolve("tiny", models_cache)


@pytest.fixture(scope="package")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Starts processes that have imported torch and everything else."""
    from tests.flow.targets import MODULES
    from tests.forks import Forks
    from tests.trainers.runs import killed

    made = Forks(*MODULES, *killed.MODULES, log_file=tmp_path_factory.mktemp("forks") / "server.log")
    yield made
    made.close()


@pytest.fixture(scope="package")
def trainer_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a Kafka of these tests' own: the topics of a model have fixed names."""
    settings = load_settings(state_dir=tmp_path_factory.mktemp("kafka"), kafka_bootstrap=None)
    with services(settings, neo4j=False) as endpoints:
        yield endpoints.kafka_bootstrap


@pytest.fixture
def fresh_kafka(trainer_kafka: str) -> str:
    """The same, with all topics empty and no group committed."""
    from schemas.topics import TOPICS
    from transport.admin import admin_client  # only once the filters of tests/conftest.py are there
    from transport.topics import create_topics

    admin = admin_client(trainer_kafka)
    there = [name for name in admin.list_topics() if name in {topic.name for topic in TOPICS}]
    if there:
        admin.delete_topics(there)
    while set(admin.list_topics()) & set(there):
        time.sleep(0.05)
    admin.close()
    create_topics(trainer_kafka)
    return trainer_kafka
