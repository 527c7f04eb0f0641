"""A Kafka and a Neo4j for these tests only: they need empty topics and an empty graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from streams.local.services import Endpoints, services
from streams.settings import load_settings

if TYPE_CHECKING:
    from tests.flow.world import World


@pytest.fixture(scope="package")
def flow_endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    """Both, started once for this package."""
    settings = load_settings(state_dir=tmp_path_factory.mktemp("flow"), kafka_bootstrap=None, neo4j_uri=None)
    with services(settings) as endpoints:
        yield endpoints


@pytest.fixture
def world(flow_endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Empty topics, an empty graph, and a state folder for the roles."""
    from tests.flow.world import World, clear
    from transport.topics import create_topics  # after tests/conftest.py has set its warning filters

    clear(flow_endpoints)
    create_topics(flow_endpoints.kafka_bootstrap)
    made = World(flow_endpoints, tmp_path_factory.mktemp("state"))
    yield made
    made.close()
