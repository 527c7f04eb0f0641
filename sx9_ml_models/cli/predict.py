"""`sx9 predict`: the techniques that probably come next."""

from __future__ import annotations

from typing import Annotated

import typer

from sx9_ml_models.cli.options import Json, example, new_app

app = new_app()


@app.command(epilog=example("sx9 predict --seen T1059,T1566"))
def predict(
    actor: Annotated[
        str,
        typer.Argument(help="A group, campaign or software whose techniques in the graph count as seen: APT29."),
    ] = "",
    seen: Annotated[str, typer.Option(metavar="IDS", help="Techniques seen so far, separated by commas.")] = "",
    kind: Annotated[str, typer.Option(help="Of who was seen: group, campaign, malware or tool.")] = "group",
    k: Annotated[int, typer.Option("-k", min=1, max=200, metavar="K", help="Number of techniques.")] = 10,
    json: Json = False,
) -> None:
    """Say which techniques probably come next, and who uses them beside what was seen.

    The champion of gnn-threat predicts them.
    """
    import msgspec

    from streams.settings import load_settings
    from sx9_ml_models import predicting, render

    found = predicting.predicted(load_settings(), seen.split(","), actor, kind, k)
    if json:
        render.as_json(msgspec.to_builtins(found))
        return
    render.lines(f"seen: {', '.join(found.seen)}", f"predicted by {found.model} {found.version}")
    render.rows(
        ("technique", "name", "probability", "used by"),
        [(t["id"], t["name"], f"{t['probability']:.3f}", "; ".join(t["evidence"])) for t in found.techniques],
    )
    if found.unknown:
        render.lines(f"not known to the model: {', '.join(found.unknown)}")
