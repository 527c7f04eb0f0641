"""`sx9 status`: what is running, and where each model stands."""

from __future__ import annotations

from sx9_ml_models.cli.options import Json, example, new_app

app = new_app()


@app.command(epilog=example("sx9 status --json"))
def status(json: Json = False) -> None:
    """Show the running processes, their lag, and each model.

    For each model: the version that serves, its open window, its drift, and the trigger that it is training for.
    """
    from streams.local.services import running
    from streams.settings import load_settings
    from sx9_ml_models import queries, render
    from trainers.settings import load_trainer_settings

    settings = load_settings()
    endpoints = running(settings) or running(settings, neo4j=False)
    found = queries.status(settings, load_trainer_settings(), endpoints)
    if json:
        render.as_json(found)
    else:
        render.status(found)
