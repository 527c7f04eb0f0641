"""Brings the node embeddings of the version that serves to Neo4j, whenever Neo4j is there.

    promotion ──> write_champion ──written──> done
                        └──Neo4j is away──> pending ──every RETRY_S, while the trainer waits──> write_champion

A promotion does not wait for Neo4j: queries use the embeddings of the version before until the new ones are there.
Neo4j may also be away when the trainer starts, or be started later: its address is asked for at each attempt. What
is missing shows in the log and in the gauge `sx9_embeddings_pending`.

The driver of Neo4j is imported at the first attempt: with pandas, which it imports where it is installed, it takes
120 MB.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from schemas.errors import RetryLater, Sx9Error
from trainers import telemetry
from trainers.settings import TrainerSettings
from trainers.store.registry import NODES, Registry

log = logging.getLogger(__name__)

RETRY_S = 30.0
"""Seconds between two attempts."""

CONNECT_TIMEOUT_S = 5.0
"""Longest wait for a connection, seconds: a trainer that waits for it takes no trigger."""

FindNeo4j = Callable[[], str | None]
"""The address of Neo4j, `bolt://host:port`; empty if it should run and does not; None if there may be none."""


def no_neo4j() -> None:
    """For a trainer without Neo4j."""


class EmbeddingsWriter:
    """Writes the embeddings of the champion of one model, if its versions have any.

    Args:
        model: Name of the model.
        settings: User and password of Neo4j.
        registry: With the versions.
        find_neo4j: Where Neo4j is.
    """

    def __init__(self, model: str, settings: TrainerSettings, registry: Registry, find_neo4j: FindNeo4j) -> None:
        self._model = model
        self._settings = settings
        self._registry = registry
        self._find_neo4j = find_neo4j
        self._written = ""
        self._next_s = 0.0

    def retry(self) -> None:
        """Write the embeddings of the champion if Neo4j lacks them, not more often than every `RETRY_S`."""
        if time.monotonic() >= self._next_s and self._registry.champion(self._model) != self._written:
            self._attempt(anew=False)

    def write_champion(self) -> None:
        """Write the embeddings of a new champion. A failure is logged, and repeated by `retry`."""
        self._attempt(anew=True)

    def _attempt(self, *, anew: bool) -> None:
        self._next_s = time.monotonic() + RETRY_S
        version = self._registry.champion(self._model)
        if version is None or not (self._registry.folder(self._model, version) / NODES).is_file():
            return
        uri = self._find_neo4j()
        if uri is None:
            return
        try:
            self._write(uri, version, anew=anew)
        except Sx9Error as error:
            telemetry.EMBEDDINGS_PENDING.labels(model=self._model).set(1)
            log.warning("the embeddings of %s are not in Neo4j yet: %s", version, error)
        else:
            self._written = version
            telemetry.EMBEDDINGS_PENDING.labels(model=self._model).set(0)

    def _write(self, uri: str, version: str, *, anew: bool) -> None:
        if not uri:
            raise RetryLater("it does not answer; check that it runs (`sx9 status`)")
        from trainers.store.node_embeddings import serving_version, write_version_embeddings
        from transport.neo4j import neo4j_driver, neo4j_errors

        password = self._settings.neo4j_password.get_secret_value()
        limits = {"connection_timeout": CONNECT_TIMEOUT_S, "max_transaction_retry_time": CONNECT_TIMEOUT_S}
        with (
            neo4j_errors("connecting"),
            neo4j_driver(uri, self._settings.neo4j_user, password, **limits) as driver,
        ):
            if anew or serving_version(driver) != version:
                write_version_embeddings(driver, version, self._registry.folder(self._model, version))
