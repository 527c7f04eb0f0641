"""`sx9 feeds`: what the feeds are worth to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sx9_ml_models.cli.options import DEFAULT_MODEL, JournalFile, Json, Model, example, new_app

app = new_app("Say what each feed is worth to a model.")


@app.callback()
def group() -> None:
    """Say what each feed is worth to a model."""


@app.command(epilog=example("sx9 feeds worth sigma nuclei-templates --model distilbert-mitre"))
def worth(
    feeds: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FEED]...", help="The feeds (default: all of the journal).", show_default=False),
    ] = None,
    model: Model = DEFAULT_MODEL,
    journal: JournalFile = None,
    holdout: Annotated[int, typer.Option(min=1, metavar="N", help="Score on so many examples, at most.")] = 1_000,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the versions (default: output/worth/<model>)."),
    ] = None,
    json: Json = False,
) -> None:
    """Train the versions of a model again without each feed, and compare their scores.

    With all feeds, and without each of them, the recorded rules decide again, and the last version that passes the
    gate is scored on the same held-out examples: those of the other feeds, and those of the feed itself. All goes
    to a folder of its own; what serves is not touched. It takes about as long as the model was trained, for each
    feed. If it is interrupted, the same call continues.
    """
    from streams.settings import load_settings
    from sx9_ml_models import render
    from sx9_ml_models.worth import report
    from sx9_ml_models.worth.measure import feeds_worth
    from trainers.settings import load_trainer_settings

    settings, trainer = load_settings(), load_trainer_settings()
    folder = output or settings.output_dir / "worth" / model
    found = feeds_worth(model, feeds or [], journal, folder, settings, trainer, holdout=holdout)
    picture = folder / "worth.png"
    report.write_plot(found, picture)
    if json:
        render.as_json(report.as_plain(found) | {"output": str(folder), "written": [str(picture)]})
        return
    render.rows(report.COLUMNS, report.table(found))
    render.lines(*report.conclusions(found, folder), f"written: {picture}")
