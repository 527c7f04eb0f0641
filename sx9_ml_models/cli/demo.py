"""`sx9 demo`: replay the history of ATT&CK through the whole system."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from sx9_ml_models.cli.options import example, new_app

app = new_app()


@app.command(epilog=example("sx9 demo --continue"))
def demo(
    resume: Annotated[
        bool, typer.Option("--continue", help="Continue an interrupted demo. Without it, the demo starts over.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="Folder for everything that the demo writes.")] = Path(".sx9/demo"),
    templates: Annotated[
        str,
        typer.Option(help="Nuclei templates: a folder, a git URL, `none`, or `auto` to use them where available."),
    ] = "auto",
    events: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Replay only the N oldest of the 19,979 events.", show_default=False),
    ] = None,
) -> None:
    """Replay the history of ATT&CK and watch the models retrain.

    Seven years of changes (2017 to 2024) pass in minutes: time is simulated.
    """
    from sx9_ml_models import logs
    from sx9_ml_models.demo.run import run_demo

    if logging.getLogger().level > logging.DEBUG:
        logs.set_up("WARNING")  # the demo prints its own progress
    run_demo(folder, resume=resume, templates=templates, events=events)
