"""`sx9 triggers`: the decisions to retrain a model, and those not to."""

from __future__ import annotations

from typing import Annotated

import typer

from sx9_ml_models.cli.options import DEFAULT_MODEL, Json, Last, Model, example, new_app

app = new_app()


@app.command(epilog=example("sx9 triggers --declined --last 10"))
def triggers(
    model: Model = DEFAULT_MODEL,
    declined: Annotated[bool, typer.Option("--declined", help="List decisions not to retrain instead.")] = False,
    last: Last = 30,
    json: Json = False,
) -> None:
    """List the decisions to retrain a model, with their reasons.

    Each has the measured values, the limits of its rules, and whether the new version was promoted.
    """
    from streams.settings import load_settings
    from sx9_ml_models import queries, render
    from sx9_ml_models.connections import topic_reader

    query, table = (queries.declined, render.declined) if declined else (queries.triggers, render.triggers)
    with topic_reader(load_settings()) as reader:
        rows = query(reader, model)[-last:]
    if json:
        render.as_json(rows)
    else:
        table(rows)
