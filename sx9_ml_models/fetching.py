"""`sx9 fetch`: some feeds once, with progress, on the Kafka that runs or on one started for it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from prometheus_client import start_http_server
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from schemas.errors import BadRecord, RetryLater
from streams.fetchers.base.feed import OnProgress
from streams.fetchers.base.runner import fetch
from streams.fetchers.feeds.registry import feed_named
from streams.local.services import services
from streams.settings import Settings
from sx9_ml_models import render as tables
from transport.topics import create_topics


def fetch_feeds(settings: Settings, wanted: Mapping[str, str | None], *, as_json: bool) -> bool:
    """Fetch feeds one after the other; one that can't be had doesn't stop the next.

    Args:
        wanted: Feed -> source, None for the feed's own.
        as_json: Print one JSON list in the end instead of a line each.

    Returns:
        Whether all of them were fetched.

    Raises:
        BadConfiguration: There is no such feed or source, or Kafka can't be started.
        RetryLater: Kafka does not answer.
    """
    for name in wanted:
        feed_named(name)
    done: list[dict[str, Any]] = []
    with services(settings, neo4j=False) as endpoints, _metrics(settings):
        create_topics(endpoints.kafka_bootstrap, settings.replication_factor)
        for name, source in wanted.items():
            try:
                with progress_of(name) as on_progress:
                    report = fetch(name, source, settings, endpoints.kafka_bootstrap, on_progress=on_progress)
            except (BadRecord, RetryLater) as error:
                print(f"sx9: {name}: {error}", file=sys.stderr)
                done.append({"feed": name, "error": str(error)})
                continue
            done.append(msgspec.to_builtins(report))
            if not as_json:
                tables.fetched(report)
    if as_json:
        tables.as_json(done)
    return not any("error" in one for one in done)


@contextlib.contextmanager
def progress_of(title: str) -> Iterator[OnProgress]:
    """Bars on stderr, one for each stage, where it is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bars: dict[str, Any] = {}
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:

        def show(stage: str, done: int, total: int | None) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(f"{title}: {stage}", total=total)
            progress.update(bars[stage], completed=done, total=total)

        yield show


@contextlib.contextmanager
def _metrics(settings: Settings) -> Iterator[None]:
    """/metrics for the length of a fetch, if SX9_METRICS_PORT says where."""
    if not settings.metrics_port:
        yield
        return
    server, thread = start_http_server(settings.metrics_port, addr=settings.bind)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
