"""`sx9 acls`: what each process may do on a Kafka with access control."""

from __future__ import annotations

from sx9_ml_models.cli.options import Json, example, new_app

app = new_app()


@app.command(epilog=example("sx9 acls --json"))
def acls(json: Json = False) -> None:
    """Print the access control list of each role, for a Kafka with an authorizer.

    Each role logs in as a user of its own, `sx9-ROLE`. All lines allow.
    """
    import msgspec

    from sx9_ml_models import render
    from sx9_ml_models.acls import all_acls

    rows = [msgspec.structs.asdict(each) for each in all_acls()]
    if json:
        render.as_json(rows)
    else:
        render.acls(rows)
