"""`sx9 keys`: the API keys of the server."""

from __future__ import annotations

import enum
import time
from typing import Annotated

import typer

from serving.keys import Keys
from serving.settings import load_serve_settings
from sx9_ml_models.cli.options import Json, example, new_app

app = new_app("Make, list and revoke the API keys of the server.")
Name = Annotated[str, typer.Argument(help="Lower-case letters, digits and -.")]


class ScopeName(enum.StrEnum):
    """The names in `serving.keys.SCOPES`."""

    READ = "read"
    ADMIN = "admin"


@app.command(epilog=example("sx9 keys add dashboard"))
def add(name: Name, scope: Annotated[ScopeName, typer.Option(help="What it may do.")] = ScopeName.READ) -> None:
    """Make a key and print it. It is shown only now: the file has its hash."""
    typer.echo(_keys().add(name, scope.value, time.time_ns() // 1_000_000))


@app.command("list", epilog=example("sx9 keys list"))
def list_keys(json: Json = False) -> None:
    """List the keys: names, scopes and when they were made."""
    from sx9_ml_models import render

    rows = [{"name": key.name, "scope": key.scope, "created_ms": key.created_ms} for key in _keys().all()]
    if json:
        render.as_json(rows)
        return
    for row in rows:
        made = time.strftime("%Y-%m-%d %H:%M", time.gmtime(int(str(row["created_ms"])) / 1000))
        typer.echo(f"{row['name']}  {row['scope']}  made {made} UTC")


@app.command(epilog=example("sx9 keys revoke dashboard"))
def revoke(name: Name) -> None:
    """Delete a key. A running server refuses it from then on."""
    _keys().revoke(name)
    typer.echo(f"{name} is revoked")


def _keys() -> Keys:
    return Keys(load_serve_settings().keys_file)
