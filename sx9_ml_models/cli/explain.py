"""`sx9 explain`: why a version exists, and what became of an example."""

from __future__ import annotations

from typing import Annotated

import typer

from sx9_ml_models.cli.options import DEFAULT_MODEL, JournalFile, Json, Model, example, new_app

app = new_app()


@app.command(epilog=example("sx9 explain distilbert-mitre@v0002; sx9 explain --example T1059.001"))
def explain(
    target: Annotated[str, typer.Argument(metavar="[MODEL@VERSION]", help="The version to explain.")] = "",
    example_name: Annotated[
        str,
        typer.Option("--example", metavar="ID", help="Say what became of this technique, rule, ... instead."),
    ] = "",
    model: Model = DEFAULT_MODEL,
    journal: JournalFile = None,
    last: Annotated[int, typer.Option(min=0, metavar="N", help="Name the N latest events.")] = 10,
    json: Json = False,
) -> None:
    """Say why a version exists, or what became of an example.

    Of a version: its trigger with the measured values, its windows and the events in them, what the gate compared,
    and what it replaced. With --example: each record of it in the journal of --model, and what each version did.
    """
    from schemas.errors import BadConfiguration
    from sx9_ml_models import render
    from sx9_ml_models.explain import command

    if bool(target) == bool(example_name):
        raise BadConfiguration("name a version (sx9 explain gnn-threat@v0002) or an example (--example T1059.001)")
    story: command.Story
    if example_name:
        story = command.of_example(model, example_name, journal)
    else:
        story = command.of_version(target, journal, last)
    if json:
        render.as_json(command.as_plain(story))
    else:
        command.show(story)
