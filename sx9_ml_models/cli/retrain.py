"""`sx9 retrain`: a manual request."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from typing import Annotated

import typer

from sx9_ml_models.cli.options import DEFAULT_MODEL, Json, Model, example, new_app

app = new_app()


@app.command(epilog=example('sx9 retrain --reason "new SOC taxonomy" --wait'))
def retrain(
    reason: Annotated[str, typer.Option(metavar="TEXT", help="The reason; it is kept in the journal.")],
    model: Model = DEFAULT_MODEL,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the new version is promoted or refused.")
    ] = False,
    json: Json = False,
) -> None:
    """Request a retrain of a model.

    The request is written to the model's journal. The system, if it runs (`sx9 up`), turns it into a trigger.
    """
    from streams.settings import load_settings
    from sx9_ml_models import render
    from sx9_ml_models.connections import kafka_with_topics
    from sx9_ml_models.retrain import request_retrain, wait_for_answer

    settings = load_settings()
    with kafka_with_topics(settings) as endpoints:
        request = request_retrain(endpoints.kafka_bootstrap, model, uuid.uuid4().hex, reason)
        result = asdict(request)
        if wait:
            result |= asdict(wait_for_answer(endpoints.kafka_bootstrap, request, settings.snapshots_dir))
    if json:
        render.as_json(result)
    else:
        render.facts(result)
