"""`sx9 archive`: the topics as Parquet files, brought up to date or checked."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from sx9_ml_models.cli.fetch import duration_s
from sx9_ml_models.cli.options import Json, example, new_app

if TYPE_CHECKING:
    from streams.settings import Settings

app = new_app()


@app.command(epilog=example("sx9 archive --to s3://bucket/sx9"))
def archive(
    to: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A folder, or a URL that fsspec knows (default: SX9_ARCHIVE_URL)."),
    ] = None,
    every: Annotated[
        str | None, typer.Option(metavar="TIME", help="Archive again at this interval until stopped: 30m, 6h, 1d.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare every file of the archive with its checksum instead.")
    ] = False,
    json: Json = False,
) -> None:
    """Copy what is new on the topics to Parquet files.

    Keys, values, headers and timestamps are kept as they are, with their offsets and checksums. Nothing is archived
    twice, and a run that was killed is continued. What retention has deleted from the topics, other commands read
    from the archive that SX9_ARCHIVE_URL names.
    """
    from schemas.errors import BadConfiguration
    from streams.settings import load_settings

    settings = load_settings(archive_url=to) if to else load_settings()
    if verify and every:
        raise BadConfiguration(f"--verify reads the archive once: leave out --every {every}")
    if every:
        _repeatedly(settings, duration_s(every))
    elif not (_verified(settings, json=json) if verify else _once(settings, json=json)):
        raise typer.Exit(1)


def _once(settings: Settings, *, json: bool) -> bool:
    """Archive what is new; whether all went well."""
    from sx9_ml_models import render
    from sx9_ml_models.archiving import archive_topics
    from sx9_ml_models.connections import kafka_with_topics, storage_of
    from transport.secrets import without_secrets

    storage_of(settings)  # before a Kafka is started
    with kafka_with_topics(settings) as endpoints:
        run = archive_topics(settings, endpoints.kafka_bootstrap)
    for fault in run.faults:
        print(f"sx9: not archived: {without_secrets(fault)}", file=sys.stderr)
    if json:
        render.as_json({"archived": [each._asdict() for each in run.archived], "faults": run.faults})
    else:
        render.rows(
            ("topic", "partition", "new offsets", "records", "bytes"),
            [
                (each.topic, str(each.partition), f"{each.start} to {each.end}", str(each.records), str(each.bytes))
                for each in run.archived
                if each.end > each.start
            ],
        )
        total = sum(each.records for each in run.archived)
        render.lines(f"{total} records archived in {without_secrets(str(settings.archive_url))}.")
    return not run.faults


def _verified(settings: Settings, *, json: bool) -> bool:
    """Check every file; whether all are what was written."""
    from sx9_ml_models import render
    from sx9_ml_models.connections import storage_of
    from transport.archive.checking import check_archive
    from transport.secrets import without_secrets

    found = list(check_archive(storage_of(settings)))
    faults = [fault for each in found for fault in each.faults]
    if json:
        render.as_json([each._asdict() for each in found])
        return not faults
    render.rows(
        ("topic", "id", "partition", "offsets", "records", "bytes", ""),
        [
            (
                each.topic, each.topic_id, str(each.partition), f"{each.start} to {each.end}", str(each.records),
                str(each.bytes), f"{len(each.faults)} faults" if each.faults else "as written",
            )
            for each in found
        ],
    )  # fmt: skip
    left = sum(len(each.unnamed) for each in found)
    if left:
        render.lines(f"{left} files are in no manifest: runs that were killed left them, and nothing reads them.")
    for fault in faults:
        print(f"sx9: {without_secrets(fault)}", file=sys.stderr)
    if not faults:
        render.lines(f"{sum(each.records for each in found)} records, every file as it was written.")
    return not faults


def _repeatedly(settings: Settings, every_s: float) -> None:
    from sx9_ml_models.archiving import archive_repeatedly
    from sx9_ml_models.connections import kafka_with_topics

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with kafka_with_topics(settings) as endpoints:
        archive_repeatedly(settings, endpoints.kafka_bootstrap, every_s, stop)
