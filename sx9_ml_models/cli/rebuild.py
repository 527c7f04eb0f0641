"""`sx9 rebuild`: the versions of a model trained again from its journal."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from sx9_ml_models.cli.options import JournalFile, Json, example, new_app

app = new_app()


@app.command(epilog=example("sx9 rebuild distilbert-mitre@v0004 --exclude feed=nuclei-templates"))
def rebuild(
    target: Annotated[str, typer.Argument(metavar="MODEL[@VERSION]", help="Without a version: the champion.")],
    journal: JournalFile = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the new versions (default: output/rebuild/<model>)."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(help="Leave out what came after this time (UTC), by the ticks of the journal."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT=NAME",
            help="Take this out: feed=NAME, entity=ID or source=TOPIC[/PARTITION[/OFFSET]]. May be repeated.",
        ),
    ] = None,
    lift: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT=NAME",
            help="Let this count again, which an earlier --exclude ... --promote left out. May be repeated.",
        ),
    ] = None,
    from_topics: Annotated[
        bool,
        typer.Option("--from-topics", help="Make the examples anew from the threat.* topics, with today's code."),
    ] = False,
    promote: Annotated[
        bool,
        typer.Option(
            "--promote", help="With --exclude or --lift: put the new versions in place of those that serve."
        ),
    ] = False,
    why: Annotated[str, typer.Option(help="With --promote: the reason; it is kept in the log.")] = "",
    by: Annotated[
        str | None, typer.Option(help="With --promote: who decides (default: the user of this command).")
    ] = None,
    json: Json = False,
) -> None:
    """Train the versions of a model again, and compare them.

    From the journal alone, into a folder of their own: what serves is not touched. Without --exclude and --lift,
    the version and its ancestors are trained as they were, and their weights are compared. With them, the rules
    decide again on what is left; with --promote, the last version that passed the gate then serves, and what is
    excluded is not learnt again until --lift takes it back. If it is interrupted, the same call continues.
    """
    import getpass

    from streams.settings import load_settings
    from sx9_ml_models import render
    from sx9_ml_models.rebuild import command
    from trainers.settings import load_trainer_settings

    settings, trainer = load_settings(), load_trainer_settings()
    plan = command.plan_of(target, until, exclude or [], lift=lift or [], from_topics=from_topics)
    folder = output or settings.output_dir / "rebuild" / plan.model
    if promote:
        command.check_promote(plan, journal, why)
    found = command.rebuild(plan, journal, folder, settings, trainer)
    done = command.promote(found, folder, settings, trainer, by or getpass.getuser(), why) if promote else ""
    if json:
        render.as_json(command.as_plain(found, folder) | ({"promotion": done} if done else {}))
        return
    render.rows(command.COLUMNS, command.table(found.versions))
    render.lines(*command.conclusions(found, folder), *([done] if done else []))
    if found.differ:
        raise typer.Exit(1)
