"""`sx9 models`: the versions of a model."""

from __future__ import annotations

from typing import Annotated

import typer

from sx9_ml_models.cli.options import DEFAULT_MODEL, Json, Model, example, new_app

app = new_app("List the versions of a model, or show one version.")


@app.command("list", epilog=example("sx9 models list --json"))
def list_versions(model: Model = DEFAULT_MODEL, json: Json = False) -> None:
    """List the versions of a model.

    Each has its scores next to those of its parent on the same holdout.
    """
    from sx9_ml_models import queries, render
    from trainers.settings import load_trainer_settings

    rows = queries.versions(load_trainer_settings(), model)
    if json:
        render.as_json(rows)
    else:
        render.versions(rows)


@app.command("show", epilog=example("sx9 models show v0002"))
def show_version(
    version: Annotated[str, typer.Argument(help="v0001, v0002, ..., or champion.")] = "champion",
    model: Model = DEFAULT_MODEL,
    json: Json = False,
) -> None:
    """Show one version of a model.

    Its provenance, the checks of the gate, and its scores. The files are verified against their hashes.
    """
    import msgspec

    from sx9_ml_models import queries, render
    from trainers.settings import load_trainer_settings

    settings = load_trainer_settings()
    manifest, serves = queries.version(settings, model, version)
    if json:
        render.as_json(msgspec.to_builtins(manifest) | {"serves": serves})
    else:
        render.version(manifest, serves, str(settings.models_dir / model / manifest.version))
