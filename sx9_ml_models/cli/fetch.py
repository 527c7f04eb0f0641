"""`sx9 fetch`: fetch feeds, once or again and again."""

from __future__ import annotations

import re
import signal
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sx9_ml_models.cli.options import Json, example, new_app

if TYPE_CHECKING:
    from streams.settings import Settings

app = new_app()

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_MIN_EVERY_S = 60.0


def duration_s(value: str) -> float:
    """A duration such as `6h` in seconds.

    >>> duration_s("90s"), duration_s("6h")
    (90.0, 21600.0)

    Raises:
        BadConfiguration: It is no duration, or shorter than a minute.
    """
    found = re.fullmatch(r"(\d{1,6})([smhd])", value.strip())
    seconds = int(found[1]) * _UNITS_S[found[2]] if found else 0.0
    if seconds < _MIN_EVERY_S:
        from schemas.errors import BadConfiguration

        raise BadConfiguration(f"--every {value!r:.40}: give a number and a unit, at least 60s: 90s, 30m, 6h, 1d")
    return seconds


@app.command(epilog=example("sx9 fetch attack-enterprise --source enterprise-attack-16.1.json"))
def fetch(
    feeds: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FEED]...", help="The feeds (default: those in SX9_FEEDS).", show_default=False),
    ] = None,
    all_feeds: Annotated[
        bool, typer.Option("--all", help="Fetch every feed that has a place, and those in SX9_FEEDS.")
    ] = False,
    source: Annotated[
        str | None,
        typer.Option(help="Read the feed from this URL, file, folder or package instead of its default source."),
    ] = None,
    every: Annotated[
        str | None, typer.Option(metavar="TIME", help="Fetch again at this interval until stopped: 30m, 6h, 1d.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=32, help="Feeds side by side, at most, with --every.")] = 4,
    json: Json = False,
) -> None:
    """Publish what changed in the feeds since the last fetch.

    A feed that can't be fetched does not stop the others; the exit code is then 1. With --every, feeds are fetched
    side by side, at slightly different times, until the process is stopped; `sx9 status` shows how each stands.
    """
    from schemas.errors import BadConfiguration
    from streams.fetchers.feeds.registry import FEEDS
    from streams.settings import load_settings
    from sx9_ml_models.fetching import with_keys

    settings = load_settings()
    if all_feeds and feeds:
        raise BadConfiguration(f"--all fetches every feed: leave out {', '.join(feeds)}, or leave out --all")
    everywhere = [name for name, spec in FEEDS.items() if spec.default_source] + list(settings.feed_sources)
    names = everywhere if all_feeds else feeds or settings.feed_sources
    sources = {name: source or settings.feed_sources.get(name) for name in names}
    sources = sources if feeds else with_keys(settings, sources)
    if source and len(sources) != 1:
        raise BadConfiguration(
            f"--source is for one feed, not {len(sources)}: name the feed, sx9 fetch FEED --source {source}"
        )
    if every:
        _repeatedly(settings, sources, duration_s(every), jobs)
    elif not _once(settings, sources, json=json):
        raise typer.Exit(1)


def _once(settings: Settings, sources: Mapping[str, str | None], *, json: bool) -> bool:
    """Fetch each feed once; whether all went well."""
    import msgspec

    from streams.fetchers.base.runner import FetchFailure
    from sx9_ml_models import render
    from sx9_ml_models.fetching import fetch_feeds
    from transport.secrets import without_secrets

    results: list[Any] = []
    for result in fetch_feeds(settings, sources):
        results.append(result)
        if isinstance(result, FetchFailure):
            print(f"sx9: {result.feed}: {without_secrets(str(result.error))}", file=sys.stderr)
        elif not json:
            render.fetch_report(result)
    if json:
        render.as_json(msgspec.to_builtins(results))
    return not any(isinstance(result, FetchFailure) for result in results)


def _repeatedly(settings: Settings, sources: Mapping[str, str | None], every_s: float, jobs: int) -> None:
    from sx9_ml_models.fetching import fetch_repeatedly

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    fetch_repeatedly(settings, sources, every_s, jobs, stop)
