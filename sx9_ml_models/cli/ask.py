"""`sx9 ask`: a question about the threat graph, answered with sources."""

from __future__ import annotations

from typing import Annotated

import typer

from sx9_ml_models.cli.options import Json, example, new_app

app = new_app()


@app.command(epilog=example('sx9 ask "how do I detect T1055?"'))
def ask(
    question: Annotated[str, typer.Argument(help="In plain words, with an id (T1055) or a name (APT29).")],
    generate: Annotated[
        bool,
        typer.Option(
            "--generate",
            help="Let the champion of phi3-mitre-lora write the answer; what the graph does not say is left out.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Answer a question about a technique, actor, software or CVE.

    Each sentence carries its sources. Without --generate the answer is made of facts alone. The exit code is 1 if
    nothing is known.
    """
    import msgspec

    from streams.settings import load_settings
    from sx9_ml_models import asking, render

    answer = asking.answer(load_settings(), question, generate=generate)
    if json:
        render.as_json(msgspec.to_builtins(answer))
    else:
        render.lines(*asking.as_lines(answer))
    if not answer.sentences:
        raise typer.Exit(1)
