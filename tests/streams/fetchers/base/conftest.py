"""What the tests of fetching on a real Kafka share."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.settings import Settings, load_settings
from transport.topics import create_topics


@pytest.fixture(scope="session")
def bootstrap(kafka_bootstrap: str) -> str:
    create_topics(kafka_bootstrap)
    return kafka_bootstrap


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(state_dir=tmp_path / "state", cache_dir=tmp_path / "cache")
