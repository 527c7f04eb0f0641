"""`sx9 quarantine`: what of the feeds is set aside, and what a person decides about it."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from sx9_ml_models.cli.options import DEFAULT_MODEL, Json, Last, Model, example, new_app

app = new_app("List what is set aside of the feeds, show it, and release or purge it.")

Feed = Annotated[str, typer.Argument(help="The feed, as `sx9 quarantine list` names it.")]
Entities = Annotated[
    list[str] | None,
    typer.Option("--entity", metavar="KEY", help="Only this entity, as `show` names it; may be given again."),
]
Why = Annotated[str, typer.Option(help="The reason; it is kept in the log.")]
By = Annotated[str | None, typer.Option(help="Who decides (default: the user of this command).")]


@app.command("list", epilog=example("sx9 quarantine list --json"))
def list_holds(json: Json = False) -> None:
    """List the feeds of which something waits, for each model: how much, since when, and why."""
    from streams.settings import load_settings
    from sx9_ml_models import quarantine, render
    from sx9_ml_models.connections import topic_reader

    settings = load_settings()
    with topic_reader(settings) as reader:
        rows = quarantine.holds(reader, settings.snapshots_dir)
    if json:
        render.as_json(rows)
    else:
        render.quarantine(rows)


@app.command(epilog=example("sx9 quarantine show sigma --last 50"))
def show(feed: Feed, model: Model = DEFAULT_MODEL, last: Last = 30, json: Json = False) -> None:
    """Show what waits of a feed: the entities, their labels and texts."""
    from streams.settings import load_settings
    from sx9_ml_models import quarantine, render
    from sx9_ml_models.connections import topic_reader

    settings = load_settings()
    with topic_reader(settings) as reader:
        rows = quarantine.held(reader, settings.snapshots_dir, feed, model)
    found = quarantine.summary(rows)
    if json:
        render.as_json(found | {"examples": rows[-last:]})
    else:
        render.held(found, rows[-last:])


@app.command(epilog=example('sx9 quarantine release sigma --why "the new rules are real"'))
def release(feed: Feed, why: Why, by: By = None, entity: Entities = None) -> None:
    """Let what waits of a feed become examples, in its order. The feed is no longer set aside then."""
    _decide(feed, "release", why, by, entity or [])


@app.command(epilog=example('sx9 quarantine purge sigma --why "the repository was taken over"'))
def purge(feed: Feed, why: Why, by: By = None, entity: Entities = None) -> None:
    """Drop what waits of a feed: no model ever learns from it. The feed is no longer set aside then."""
    _decide(feed, "purge", why, by, entity or [])


def _decide(feed: str, action: Literal["release", "purge"], why: str, by: str | None, keys: list[str]) -> None:
    import getpass

    from streams.settings import load_settings
    from sx9_ml_models import quarantine, render
    from sx9_ml_models.connections import kafka_with_topics
    from transport.kafka import consumer

    settings = load_settings()
    with kafka_with_topics(settings) as endpoints:
        reader = consumer(endpoints.kafka_bootstrap)
        try:
            waiting = quarantine.holds(reader, settings.snapshots_dir)
        finally:
            reader.close()
        models = quarantine.decide(
            endpoints.kafka_bootstrap, waiting, feed, action, by=by or getpass.getuser(), why=why, keys=keys
        )
    examples = sum(row["waiting"] for row in waiting if row["feed"] == feed)
    what = f"{len(keys)} entities" if keys else f"{examples} examples"
    render.lines(
        f"{action} {what} of {feed} ({', '.join(models)}): the journal role does it within seconds, while it runs"
    )
