"""`sx9 windows`: the training windows of a model."""

from __future__ import annotations

from sx9_ml_models.cli.options import DEFAULT_MODEL, Json, Last, Model, example, new_app

app = new_app()


@app.command(epilog=example("sx9 windows --last 5"))
def windows(model: Model = DEFAULT_MODEL, last: Last = 30, json: Json = False) -> None:
    """List the closed training windows of a model.

    A window is a range of the journal whose examples are trained on together.
    """
    from streams.settings import load_settings
    from sx9_ml_models import queries, render
    from sx9_ml_models.connections import topic_reader

    with topic_reader(load_settings()) as reader:
        rows = queries.windows(reader, model)[-last:]
    if json:
        render.as_json(rows)
    else:
        render.windows(rows)
