"""Clients for the tests of transport."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="package")
def admin(kafka_bootstrap: str) -> Iterator[Any]:
    """An admin client; imported here, after tests/conftest.py has set its warning filters."""
    from transport.admin import admin_client

    with contextlib.closing(admin_client(kafka_bootstrap)) as client:
        yield client


@pytest.fixture(scope="package")
def writer(kafka_bootstrap: str) -> Iterator[Any]:
    from transport.kafka import producer

    with contextlib.closing(producer(kafka_bootstrap)) as client:
        yield client


@pytest.fixture
def reader(kafka_bootstrap: str) -> Iterator[Any]:
    from transport.kafka import consumer

    with contextlib.closing(consumer(kafka_bootstrap)) as client:
        yield client
