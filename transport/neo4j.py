"""The Neo4j driver, with its errors mapped to `schemas.errors`.

It is imported when it is first used, because most processes never use it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from schemas.errors import BadConfiguration, RetryLater
from transport.logins import neo4j_ca, neo4j_login

if TYPE_CHECKING:
    from neo4j import Driver

CONVERTED = ("numpy", "pandas", "pyarrow")
"""Packages whose values the driver converts. It imports them where they are installed: 67 MB and 2.5 s of processor
time for each process. We pass it plain values only."""
_importing = threading.Lock()


def neo4j_module() -> ModuleType:
    """The package `neo4j`, imported without the packages of `CONVERTED`."""
    with _importing:
        if "neo4j" not in sys.modules:
            hidden = [name for name in CONVERTED if name not in sys.modules]
            sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: an import raises ImportError
            try:
                import neo4j._optional_deps
            finally:
                for name in hidden:
                    del sys.modules[name]
        import neo4j

        return neo4j


EMBEDDING_PREFIX = "gnn_threat_"
"""Prefix of the properties of nodes that are no event's: the embeddings of a version."""


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
    exceptions = neo4j_module().exceptions
    try:
        yield
    except exceptions.Neo4jError as error:
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
    exceptions = neo4j_module().exceptions
    try:
        with out_of_memory_errors(doing):
            yield
    except (exceptions.DriverError, exceptions.Neo4jError) as error:
        text = f"Neo4j failed while {doing}: {type(error).__name__}: {error}"
        if error.is_retryable():
            raise RetryLater(f"{text}; check that it runs (`sx9 status`) and try again") from error
        raise BadConfiguration(f"{text}; check SX9_NEO4J_URI, user and password") from error


@contextlib.contextmanager
def neo4j_driver(uri: str, user: str = "", password: str = "", **settings: Any) -> Iterator[Driver]:
    """A driver that is closed at the end of the block.

    Args:
        uri: `bolt://host:port`, or `bolt+s://` with TLS.
        user: User name; not used if the password is empty.
        password: Empty: the login that `transport.logins` has for the address, or none.
        settings: Further arguments of `neo4j.GraphDatabase.driver`.
    """
    login = (user, password) if password else neo4j_login(uri)
    auth = login if login[1] else None
    address, tls = tls_settings(uri)
    with neo4j_module().GraphDatabase.driver(
        address, auth=auth, notifications_min_severity="OFF", **(tls | settings)
    ) as driver:
        yield driver


def tls_settings(uri: str) -> tuple[str, dict[str, Any]]:
    """The address and the arguments with which the driver trusts the certificates that were named for a Neo4j.

    The driver takes own certificates only with a scheme that does not say which are trusted.
    """
    ca_file = neo4j_ca(uri)
    if ca_file is None:
        return uri, {}
    scheme, _, rest = uri.partition("://")
    trust = neo4j_module().TrustCustomCAs(str(ca_file))
    return f"{scheme.partition('+')[0]}://{rest}", {"encrypted": True, "trusted_certificates": trust}
