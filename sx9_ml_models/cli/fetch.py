"""`sx9 fetch`: fetch feeds once."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from sx9_ml_models.cli.options import Json, example, new_app

app = new_app()


@app.command(epilog=example("sx9 fetch attack-enterprise --source enterprise-attack-16.1.json"))
def fetch(
    feeds: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FEED]...", help="The feeds (default: those in SX9_FEEDS).", show_default=False),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help="Read the feed from this URL, file, folder or package instead of its default source."),
    ] = None,
    json: Json = False,
) -> None:
    """Publish what changed in the feeds since the last fetch.

    A feed that can't be fetched does not stop the others; the exit code is then 1.
    """
    import msgspec

    from schemas.errors import BadConfiguration
    from streams.fetchers.base.runner import FetchFailure
    from streams.settings import load_settings
    from sx9_ml_models import render
    from sx9_ml_models.fetching import fetch_feeds
    from transport.secrets import without_secrets

    settings = load_settings()
    sources = {name: source or settings.feed_sources.get(name) for name in feeds or settings.feed_sources}
    if source and len(sources) != 1:
        raise BadConfiguration(
            f"--source is for one feed, not {len(sources)}: name the feed, sx9 fetch FEED --source {source}"
        )
    results: list[Any] = []
    for result in fetch_feeds(settings, sources):
        results.append(result)
        if isinstance(result, FetchFailure):
            print(f"sx9: {result.feed}: {without_secrets(str(result.error))}", file=sys.stderr)
        elif not json:
            render.fetch_report(result)
    if json:
        render.as_json(msgspec.to_builtins(results))
    if any(isinstance(result, FetchFailure) for result in results):
        raise typer.Exit(1)
