"""A Kafka and a Neo4j for these tests only: they need empty topics and an empty graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from streams.local.services import Endpoints, Owned, owned_services
from streams.settings import Settings, load_settings

if TYPE_CHECKING:
    from tests.flow.world import World
    from tests.forks import Forks


@pytest.fixture(scope="package")
def flow_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of local services with a state folder of this package's own."""
    return load_settings(state_dir=tmp_path_factory.mktemp("flow"), kafka_bootstrap=None, neo4j_uri=None)


@pytest.fixture(scope="package")
def owned(flow_settings: Settings) -> Iterator[Owned]:
    """Both, started once for this package; a test may kill and relaunch them."""
    with owned_services(flow_settings) as found:
        yield found


@pytest.fixture(scope="package")
def flow_endpoints(owned: Owned) -> Endpoints:
    """Their addresses."""
    return owned.endpoints


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


@pytest.fixture(scope="package")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Starts processes that have imported everything."""
    from tests.flow.targets import MODULES
    from tests.forks import Forks

    made = Forks(*MODULES, log_file=tmp_path_factory.mktemp("forks") / "server.log")
    yield made
    made.close()
