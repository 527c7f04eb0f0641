"""`sx9 acls`: what each process may do on a Kafka with access control."""

from __future__ import annotations

from sx9_ml_models.cli.options import Json, example, new_app

app = new_app()


@app.command(epilog=example("sx9 acls --json"))
def acls(json: Json = False) -> None:
    """Print the access control list of each role, for a Kafka with an authorizer.

    Each role logs in as a user of its own, `sx9-ROLE`. All lines allow. The topics of `sx9 run classify` are those
    that SX9_SERVE_CLASSIFY_FROM and SX9_SERVE_CLASSIFY_TO name.
    """
    import msgspec

    from serving.settings import load_serve_settings
    from sx9_ml_models import render
    from sx9_ml_models.acls import all_acls

    topics = load_serve_settings()
    table = all_acls(topics.classify_from, topics.classify_to)
    rows = [msgspec.structs.asdict(each) for each in table]
    if json:
        render.as_json(rows)
    else:
        render.acls(rows)
