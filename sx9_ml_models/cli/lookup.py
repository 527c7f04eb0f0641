"""`sx9 lookup`: what covers a technique, an actor or a CVE, and from which feed."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sx9_ml_models.cli.options import Json, example, new_app

if TYPE_CHECKING:
    from streams.content.crosswalk import Crosswalk

app = new_app()


@app.command(epilog=example("sx9 lookup T1059 --content output/threat_content"))
def lookup(
    asked: Annotated[
        str, typer.Argument(metavar="ID", help="T1059.001, G0016, CVE-2021-44228, ...; a revoked id is followed.")
    ],
    content: Annotated[
        Path | None, typer.Option(help="Read this folder of threat content instead of the topics.")
    ] = None,
    json: Json = False,
) -> None:
    """Say what covers a technique, an actor or a CVE, and from which feed.

    Nothing is written. The answer is JSON: with --json alone, otherwise below a heading. The exit code is 1 if no
    feed knows the id.
    """
    from streams.content.crosswalk import Crosswalk
    from streams.content.events_folder import read_events
    from sx9_ml_models import render

    crosswalk = _from_topics() if content is None else Crosswalk(read_events(content))
    found = crosswalk.lookup(asked)
    if not json:
        render.lines(render.lookup_heading(found, asked))
    render.as_json(found)
    if found["mitre"] is None and not found["covered_by"]:
        print(f"sx9: no feed has {asked!r:.100}: check the id, or fetch the feed that has it", file=sys.stderr)
        raise typer.Exit(1)


def _from_topics() -> Crosswalk:
    from streams.content.crosswalk import Crosswalk
    from streams.settings import load_settings
    from sx9_ml_models.connections import topic_reader
    from sx9_ml_models.exports import events_from_topics

    rejected = Counter[str]()
    with topic_reader(load_settings()) as reader:
        crosswalk = Crosswalk(events_from_topics(reader, rejected))
    if rejected:
        print(f"sx9: skipped {rejected.total()} unusable records", file=sys.stderr)
    return crosswalk
