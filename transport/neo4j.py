"""The Neo4j driver, and its errors as `schemas.errors`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from neo4j import Driver, GraphDatabase
from neo4j.exceptions import DriverError, Neo4jError

from schemas.errors import BadConfiguration, RetryLater


@contextlib.contextmanager
def neo4j_errors(doing: str) -> Iterator[None]:
    """Map errors of the driver: retryable ones to `RetryLater`, all others to `BadConfiguration`."""
    try:
        yield
    except (DriverError, Neo4jError) as error:
        text = f"Neo4j failed while {doing}: {type(error).__name__}: {error}"
        if error.is_retryable():
            raise RetryLater(f"{text}; check that it runs (`sx9 status`) and try again") from error
        raise BadConfiguration(f"{text}; check SX9_NEO4J_URI, user and password") from error


@contextlib.contextmanager
def driver(uri: str, user: str, password: str, **settings: Any) -> Iterator[Driver]:
    """A driver that is closed at the end of the block.

    Args:
        uri: `bolt://host:port`.
        user: Name of the user.
        password: Empty: no authentication.
        settings: Further arguments of `neo4j.GraphDatabase.driver`.
    """
    auth = (user, password) if password else None
    with GraphDatabase.driver(uri, auth=auth, notifications_min_severity="OFF", **settings) as opened:
        yield opened
