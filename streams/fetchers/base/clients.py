"""The Kafka clients of a pass over feeds: each is made when it is first needed, and shared by all fetches.

To connect and log in costs more than what a fetch without changes asks of Kafka. One thread may use them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError

from transport import kafka as wire
from transport.admin import admin_client

FRESH_S = 120.0
"""A client that was not used for longer is made anew, seconds: brokers and firewalls close idle connections."""
CLOSE_S = 2.0
"""Longest wait for the end of a producer, seconds: what matters was flushed or has failed by then."""


class _Client(NamedTuple):
    client: Any
    close: Callable[[], None]
    used_s: float


class KafkaClients:
    """A reader, an admin client, and a producer for each batch size. Close it at the end of the pass.

    Args:
        bootstrap: host:port of Kafka.
    """

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._open: dict[str, _Client] = {}

    def reader(self) -> contextlib.AbstractContextManager[KafkaConsumer]:
        """A consumer without a group; its assignment is that of its last use."""

        def make() -> _Client:
            made = wire.consumer(self.bootstrap)
            return _Client(made, made.close, 0.0)

        return self._lent("reader", make)

    def admin(self) -> contextlib.AbstractContextManager[KafkaAdminClient]:
        """An admin client."""

        def make() -> _Client:
            made = admin_client(self.bootstrap)
            return _Client(made, made.close, 0.0)

        return self._lent("admin", make)

    def producer(self, batch_size: int) -> contextlib.AbstractContextManager[KafkaProducer]:
        """A producer whose batches have at most `batch_size` bytes, unless one message alone has more."""

        def make() -> _Client:
            made = wire.producer(self.bootstrap, batch_size=batch_size)
            return _Client(made, lambda: made.close(timeout=CLOSE_S), 0.0)

        return self._lent(f"producer of {batch_size}", make)

    def close(self) -> None:
        """Close all clients."""
        for name in list(self._open):
            self._close(name)

    @contextlib.contextmanager
    def _lent(self, name: str, make: Callable[[], _Client]) -> Iterator[Any]:
        """A client for one use. One that failed is closed: a producer in its fatal state can't send again."""
        if name in self._open and time.monotonic() - self._open[name].used_s > FRESH_S:
            self._close(name)
        if name not in self._open:
            self._open[name] = make()
        try:
            yield self._open[name].client
        except BaseException:
            self._close(name)
            raise
        self._open[name] = self._open[name]._replace(used_s=time.monotonic())

    def _close(self, name: str) -> None:
        with contextlib.suppress(KafkaError):
            self._open.pop(name).close()


@contextlib.contextmanager
def clients_of(kafka: str | KafkaClients) -> Iterator[KafkaClients]:
    """The clients of a pass, or, for host:port of Kafka, clients that are closed at the end."""
    if isinstance(kafka, KafkaClients):
        yield kafka
        return
    with contextlib.closing(KafkaClients(kafka)) as own:
        yield own
