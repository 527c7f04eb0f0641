"""Which version should serve, and making it serve: a thread that follows the log.

    model.versions.v1 ──latest promotion or rollback of each model──┐
    champion links, for models without one, or without Kafka ───────┴──> wanted ──> ServedModels.swap

A version that could not be loaded is tried again every `RETRY_S`, since its files may be restored. While Kafka does
not answer, what serves goes on serving.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing

from schemas.errors import Sx9Error
from schemas.topics import VERSIONS
from serving import telemetry
from serving.served import RETRY_S, ServedModels
from trainers.store.registry import Registry
from trainers.store.version_log import VersionLog
from transport.kafka import consumer
from transport.partition_log import KafkaPartitionLog
from transport.topics import partitions_of

log = logging.getLogger(__name__)

Wanted = Callable[[], Mapping[str, str]]
"""Model -> the version that should serve."""


def champions(registry: Registry, models: tuple[str, ...]) -> dict[str, str]:
    """Model -> its champion, for the models that have one."""
    found = {model: registry.champion(model) for model in models}
    return {model: version for model, version in found.items() if version}


class LogOfPromotions:
    """The latest promotion or rollback of each model, read from Kafka at each call.

    Args:
        bootstrap: host:port of the broker.
        fallback: Model -> version, for models that the log has no promotion of.
    """

    def __init__(self, bootstrap: str, fallback: Wanted) -> None:
        self._bootstrap = bootstrap
        self._fallback = fallback
        self._stack = ExitStack()
        self._log: VersionLog | None = None

    def __call__(self) -> dict[str, str]:
        """Model -> version.

        Raises:
            RetryLater: Kafka does not answer.
            BadConfiguration: The topic is not there.
        """
        try:
            if self._log is None:
                reader = self._stack.enter_context(closing(consumer(self._bootstrap)))
                numbers = [found.partition for found in partitions_of(reader, [VERSIONS])]
                self._log = VersionLog(*(KafkaPartitionLog(reader, VERSIONS, number) for number in numbers))
            self._log.catch_up()
        except Sx9Error:
            self.close()  # the next call begins anew: the topic may have been made again
            raise
        promoted = {model: event.version for model, event in self._log.promoted.items()}
        return {**self._fallback(), **promoted}

    def close(self) -> None:
        """Close the connection."""
        self._log = None
        self._stack.close()


class Follower:
    """Swaps what serves to what should serve.

    Args:
        served: Changed.
        wanted: Which versions should serve.
        interval_s: Between two looks, seconds.

    Attributes:
        fault: Why it can't be read which version should serve; empty if it can.
    """

    def __init__(self, served: ServedModels, wanted: Wanted, interval_s: float) -> None:
        self.fault = ""
        self.looked = threading.Event()
        self._served = served
        self._wanted = wanted
        self._interval_s = interval_s
        self._failed: dict[str, tuple[str, float]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def step(self) -> None:
        """Look once, and swap."""
        try:
            wanted = dict(self._wanted())
            self.fault = ""
        except Sx9Error as error:
            if not self.fault:
                log.warning("%s; what serves goes on serving", error)
            self.fault = str(error)
            telemetry.FOLLOWING_FAILURES.inc()
            if self.looked.is_set():
                return
            wanted = champions(self._served.registry, self._served.models)
        for model, version in wanted.items():
            if model in self._served.models and not self._stop.is_set():
                self._swap(model, version)
        self.looked.set()

    def _swap(self, model: str, version: str) -> None:
        failed, at_s = self._failed.get(model, ("", 0.0))
        if failed == version and time.monotonic() - at_s < RETRY_S:
            return
        if self._served.swap(model, version):
            self._failed.pop(model, None)
        else:
            self._failed[model] = (version, time.monotonic())

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self.step()
            except Exception:
                log.exception("the follower failed; it goes on")
                telemetry.FOLLOWING_FAILURES.inc()
            self._stop.wait(self._interval_s)
        close = getattr(self._wanted, "close", None)
        if close:
            close()
