"""The border to Neo4j that streams and trainers share: its driver, and what that raises in our words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from neo4j import Driver, GraphDatabase
from neo4j.exceptions import DriverError, Neo4jError

from schemas.errors import BadConfiguration, RetryLater


@contextlib.contextmanager
def neo4j_errors(doing: str) -> Iterator[None]:
    """Maps what the driver raises: what may pass later to `RetryLater`, the rest to `BadConfiguration`."""
    try:
        yield
    except (DriverError, Neo4jError) as error:
        text = f"Neo4j failed while {doing}: {type(error).__name__}: {error}"
        if error.is_retryable():
            raise RetryLater(f"{text}; check that it runs (`sx9 status`) and try again") from error
        raise BadConfiguration(f"{text}; check SX9_NEO4J_URI, user and password") from error


@contextlib.contextmanager
def opened(uri: str, user: str, password: str, **settings: Any) -> Iterator[Driver]:
    """A driver for as long as the block lasts; without a password there is no authentication."""
    login = (user, password) if password else None
    with GraphDatabase.driver(uri, auth=login, notifications_min_severity="OFF", **settings) as driver:
        yield driver
