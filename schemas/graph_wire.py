"""The border to Neo4j that streams and trainers share: what its driver raises, in our words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

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
