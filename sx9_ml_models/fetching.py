"""Fetching some feeds once, with progress bars, on the Kafka that runs or on one started for it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from streams.fetchers.base.feed import OnProgress
from streams.fetchers.base.runner import FetchFailure, FetchReport, try_fetch
from streams.fetchers.feeds.registry import feed_named
from streams.settings import Settings
from sx9_ml_models.connections import kafka_with_topics
from transport.metrics import serve_metrics


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
    for name in sources:
        feed_named(name)
    with kafka_with_topics(settings) as endpoints, _metrics_server(settings):
        for name, source in sources.items():
            with progress_bars(name) as on_progress:
                result = try_fetch(name, source, settings, endpoints.kafka_bootstrap, on_progress=on_progress)
            yield result


@contextlib.contextmanager
def progress_bars(title: str) -> Iterator[OnProgress]:
    """A progress callback that shows a bar per stage on stderr, if that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:

        def on_progress(stage: str, done: int, total: int | None) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(f"{title}: {stage}", total=total)
            progress.update(bars[stage], completed=done, total=total)

        yield on_progress


@contextlib.contextmanager
def _metrics_server(settings: Settings) -> Iterator[None]:
    """Serve /metrics while feeds are fetched, if SX9_METRICS_PORT names a port."""
    if not settings.metrics_port:
        yield
        return
    server, thread = serve_metrics("fetch", settings.metrics_port, settings.bind)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
