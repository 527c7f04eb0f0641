"""The Neo4j driver, with its errors mapped to `schemas.errors`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from neo4j import Driver, GraphDatabase
from neo4j.exceptions import DriverError, Neo4jError

from schemas.errors import BadConfiguration, RetryLater


class OutOfMemory(RetryLater):
    """Neo4j has too little memory for a transaction: a smaller one, or the same one later, may succeed."""


@contextlib.contextmanager
def out_of_memory_errors(doing: str) -> Iterator[None]:
    """Map the errors by which Neo4j says that it has too little memory; the others pass.

    Args:
        doing: As for `neo4j_errors`.

    Raises:
        OutOfMemory: A transaction did not fit the memory of the database, or what was left of it.
    """
    try:
        yield
    except Neo4jError as error:
        if "OutOfMemory" in (error.code or ""):
            raise OutOfMemory(
                f"Neo4j has too little memory while {doing}: {error.code}; raise its heap (SX9_NEO4J_HEAP_MB)"
            ) from error
        raise


@contextlib.contextmanager
def neo4j_errors(doing: str) -> Iterator[None]:
    """Map errors of the driver.

    Args:
        doing: What the block does, for the message: `writing 20 events`.

    Raises:
        OutOfMemory: See `out_of_memory_errors`.
        RetryLater: The driver calls the error retryable.
        BadConfiguration: It does not.
    """
    try:
        with out_of_memory_errors(doing):
            yield
    except (DriverError, Neo4jError) as error:
        text = f"Neo4j failed while {doing}: {type(error).__name__}: {error}"
        if error.is_retryable():
            raise RetryLater(f"{text}; check that it runs (`sx9 status`) and try again") from error
        raise BadConfiguration(f"{text}; check SX9_NEO4J_URI, user and password") from error


@contextlib.contextmanager
def neo4j_driver(uri: str, user: str, password: str, **settings: Any) -> Iterator[Driver]:
    """A driver that is closed at the end of the block.

    Args:
        uri: `bolt://host:port`.
        user: User name; not used if the password is empty.
        password: Empty: no authentication.
        settings: Further arguments of `neo4j.GraphDatabase.driver`.
    """
    auth = (user, password) if password else None
    with GraphDatabase.driver(uri, auth=auth, notifications_min_severity="OFF", **settings) as driver:
        yield driver
