"""`sx9 models`: the versions of a model, and which of them serves."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from sx9_ml_models.cli.options import DEFAULT_MODEL, Json, Model, example, model_name, new_app

app = new_app("List the versions of a model, show one, or choose the one that serves.")


@app.command("list", epilog=example("sx9 models list --json"))
def list_versions(model: Model = DEFAULT_MODEL, json: Json = False) -> None:
    """List the versions of a model.

    Each has its scores next to those of its parent on the same holdout. While Kafka runs, each says for how many
    days it can still be rebuilt, by the retention of its journal and the archive.
    """
    import time

    from streams.settings import load_settings
    from sx9_ml_models import queries, render
    from trainers.settings import load_trainer_settings

    trainer = load_trainer_settings()
    rows = queries.versions(trainer, model)
    until_ms = queries.rebuildable_until_ms(load_settings(), trainer, model) if rows else {}
    for row in rows:
        row["rebuildable"] = render.rebuildable(until_ms.get(row["version"]), time.time() * 1000)
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


@app.command("diff", epilog=example("sx9 models diff v0002 v0003 --model gnn-threat"))
def diff_versions(
    before: Annotated[str, typer.Argument(help="v0001, v0002, ..., or champion.")],
    after: Annotated[str, typer.Argument(help="The version to compare it with.")],
    model: Model = DEFAULT_MODEL,
    answers: Annotated[bool, typer.Option(help="Load both versions, and compare what they answer.")] = True,
    json: Json = False,
) -> None:
    """Compare two versions of a model.

    Their labels, their scores on the holdout, what differs in their data, configuration and libraries, and where
    their answers differ on the examples that are held out now: the labels of texts, the facts and sentences of
    explanations, or the techniques that rank first for an actor.
    """
    import msgspec

    from sx9_ml_models import queries, render
    from sx9_ml_models.explain import answer_tables
    from sx9_ml_models.explain.diff import answers_or_why, version_diff
    from trainers.settings import load_trainer_settings

    settings = load_trainer_settings()
    manifests = [queries.version(settings, model, name)[0] for name in (before, after)]
    found = version_diff(*manifests)
    answered, why = answers_or_why(settings, *manifests) if answers else (None, "")
    if json:
        render.as_json(msgspec.to_builtins(found) | {"answers": msgspec.to_builtins(answered)})
        return
    render.version_diff(found)
    if answered:
        answer_tables.show(answered)
    elif why:
        render.lines(f"Their answers were not compared: {why}.")


VersionOfModel = Annotated[str, typer.Argument(metavar="MODEL@VERSION", help="Such as distilbert-mitre@v0002.")]
Why = Annotated[str, typer.Option(help="The reason; it is kept in the log.")]
By = Annotated[str | None, typer.Option(help="Who decides (default: the user of this command).")]


@app.command("promote", epilog=example('sx9 models promote distilbert-mitre@v0003 --why "checked by hand"'))
def promote(version: VersionOfModel, why: Why, by: By = None) -> None:
    """Make a version serve that the gate refused, or that was rolled back. The next run starts from it."""
    _change(version, "promoted", why, by)


@app.command("rollback", epilog=example('sx9 models rollback distilbert-mitre@v0001 --why "poisoned feed"'))
def rollback(version: VersionOfModel, why: Why, by: By = None) -> None:
    """Go back to an earlier version. The next run starts from it."""
    _change(version, "rolled-back", why, by)


def _change(name: str, action: Literal["promoted", "rolled-back"], why: str, by: str | None) -> None:
    import getpass

    from schemas.errors import BadConfiguration
    from streams.settings import load_settings
    from sx9_ml_models import render
    from sx9_ml_models.connections import kafka_with_topics
    from trainers.runs.champion import change_champion
    from trainers.settings import load_trainer_settings

    model, at, version = name.partition("@")
    if not at:
        raise BadConfiguration(f"{name!r} names no version: write MODEL@VERSION, such as {name}@v0002")
    model = model_name(model)
    with kafka_with_topics(load_settings()) as endpoints:
        before = change_champion(
            load_trainer_settings(), endpoints.kafka_bootstrap, model, version, action,
            by=by or getpass.getuser(), why=why,
        )  # fmt: skip
    was = f"before: {before}" if before != version else "it did already"
    render.out().print(f"{model} {version} serves ({was}); the next run starts from it", markup=False)
