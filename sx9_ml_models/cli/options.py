"""Options that several commands share, and the application object that every command module creates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from schemas.models import MODELS, model_spec

DEFAULT_MODEL = MODELS[0]


def new_app(summary: str | None = None) -> typer.Typer:
    """The application object of a command module.

    Args:
        summary: Help text of a module with subcommands; None for a module with one command.
    """
    return typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, help=summary)


def example(command: str) -> str:
    """The epilog of a command's help. The first character keeps the line from being wrapped."""
    return f"\b\nExample: {command}"


def model_name(value: str) -> str:
    """The name of a model.

    Raises:
        BadConfiguration: There is no such model.
    """
    return model_spec(value).name


Model = Annotated[
    str, typer.Option("--model", "-m", parser=model_name, metavar="NAME", help=f"One of {', '.join(MODELS)}.")
]
Last = Annotated[int, typer.Option(min=1, metavar="N", help="Show the N most recent ones.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
JournalFile = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        metavar="FILE",
        help="Read the journal from this file, which `sx9 export journal` has written, instead of from Kafka.",
    ),
]
