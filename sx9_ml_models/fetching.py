"""Fetching feeds, once with progress bars or again and again, on the Kafka that runs or on one started for it."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping

from schemas.topics import TECHNIQUES
from streams.fetchers.base.clients import clients_of
from streams.fetchers.base.runner import FetchFailure, FetchReport, missing_key, show_next, try_fetch
from streams.fetchers.base.schedule import run_schedule
from streams.fetchers.feeds.registry import feed_named
from streams.settings import Settings
from streams.telemetry import FETCH_INTERVAL
from sx9_ml_models.connections import kafka_with_topics
from sx9_ml_models.stage_bars import stage_bars
from transport.metrics import serve_metrics, use_certificate

log = logging.getLogger(__name__)

_POLL_S = 0.2
"""Longest time until a waiting fetch sees that it is to stop, seconds."""


def fetch_feeds(settings: Settings, sources: Mapping[str, str | None]) -> Iterator[FetchReport | FetchFailure]:
    """Fetch feeds one after another. A feed that fails does not stop the next.

    Args:
        settings: Name Kafka, the cache folder, and the port of /metrics.
        sources: Feed -> source, None for the feed's default.

    Yields:
        One result per feed, as soon as it is there.

    Raises:
        BadConfiguration: There is no such feed, or Kafka can't be started.
        RetryLater: Kafka does not answer.
    """
    with _ready(settings, sources) as bootstrap, clients_of(bootstrap) as clients:
        for name, source in sources.items():
            with stage_bars(name) as on_progress:
                result = try_fetch(name, source, settings, clients, on_progress=on_progress)
            yield result


def fetch_repeatedly(
    settings: Settings, sources: Mapping[str, str | None], every_s: float, jobs: int, stop: threading.Event
) -> None:
    """Fetch feeds again and again, some side by side, until `stop` is set.

    Args:
        settings: Name Kafka, the state and cache folders, and the port of /metrics.
        sources: Feed -> source, None for the feed's default.
        every_s: Seconds between the end of a fetch of a feed and its next.
        jobs: Feeds that are fetched side by side, at most.
        stop: Set from outside to end; a fetch that is cut off loses nothing.

    Raises:
        BadConfiguration: There is no such feed, or Kafka can't be started.
        RetryLater: Kafka does not answer.
    """
    with _ready(settings, sources) as bootstrap:
        fetch_on_schedule(settings, sources, bootstrap, every_s, jobs, stop)


def fetch_on_schedule(
    settings: Settings,
    sources: Mapping[str, str | None],
    bootstrap: str,
    every_s: float,
    jobs: int,
    stop: threading.Event,
) -> None:
    """As `fetch_repeatedly`, on a Kafka that runs and has all topics.

    Feeds that name techniques wait until those that say what a technique is were fetched once.

    Args:
        settings, sources, every_s, jobs, stop: As for `fetch_repeatedly`.
        bootstrap: host:port of Kafka.
    """
    specs = {name: feed_named(name) for name in sources}
    of_techniques = {name for name, spec in specs.items() if TECHNIQUES in spec.topics}
    waiting = {name for name in specs if specs[name].labels_by_technique} if of_techniques else set()
    has_techniques = threading.Event()

    def fetch(feed: str) -> bool:
        while feed in waiting and not (has_techniques.wait(_POLL_S) or stop.is_set()):
            pass
        try:
            result = try_fetch(feed, sources[feed], settings, bootstrap)
        finally:
            of_techniques.discard(feed)
            if not of_techniques:
                has_techniques.set()
        if isinstance(result, FetchFailure):
            log.warning("%s: %s", feed, result.error)
            return False
        log.info("%s: %d events published; %s", feed, result.published, result.counts)
        return True

    def on_planned(feed: str, wait_s: float) -> None:
        show_next(settings, feed, wait_s)
        log.info("%s: next fetch in %.0f s", feed, wait_s)

    for feed in sources:
        FETCH_INTERVAL.labels(feed=feed).set(every_s)
    first = sorted(sources, key=lambda name: name not in of_techniques)
    run_schedule(first, every_s, jobs, fetch, stop, on_planned)


def with_keys(settings: Settings, sources: Mapping[str, str | None]) -> dict[str, str | None]:
    """The feeds without those that need a key which the settings do not have; each of these is said in the log.

    Args:
        settings: With the keys.
        sources: Feed -> source, None for the feed's default.

    Raises:
        BadConfiguration: There is no such feed.
    """
    missing = {name: missing_key(feed_named(name), settings) for name, source in sources.items() if source is None}
    for message in filter(None, missing.values()):
        log.warning("%s; it is skipped", message)
    return {name: source for name, source in sources.items() if not missing.get(name)}


@contextlib.contextmanager
def _ready(settings: Settings, sources: Mapping[str, str | None]) -> Iterator[str]:
    """The address of a Kafka with all topics, and /metrics, while feeds are fetched; all feeds must be known."""
    for name in sources:
        feed_named(name)
    with kafka_with_topics(settings) as endpoints, _metrics_server(settings):
        yield endpoints.kafka_bootstrap


@contextlib.contextmanager
def _metrics_server(settings: Settings) -> Iterator[None]:
    """Serve /metrics while feeds are fetched, if SX9_METRICS_PORT names a port."""
    if not settings.metrics_port:
        yield
        return
    use_certificate(settings.metrics_cert_file, settings.metrics_key_file)
    server, thread = serve_metrics("fetch", settings.metrics_port, settings.bind)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
