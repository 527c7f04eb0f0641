"""The `sx9` command line: the list of commands, global options and exit codes.

    sx9 [global options] COMMAND  ──>  sx9_ml_models/cli/<COMMAND>.py  ──>  one function  ──>  tables or JSON

A command's module is imported when the command is used, so `sx9 --help` does not wait for Kafka or torch.

Exit codes: 0 success, 1 failure (the call itself was valid), 2 wrong usage or configuration, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from schemas.errors import BadConfiguration, Sx9Error
from sx9_ml_models import logs
from transport.secrets import without_secrets

COMMANDS = {
    "demo": "Replay the history of ATT&CK and watch the models retrain.",
    "up": "Run the whole system on this machine until Ctrl-C.",
    "fetch": "Publish what changed in the feeds since the last fetch.",
    "feeds": "Say what each feed is worth to a model.",
    "status": "Show the running processes, their lag, and each model.",
    "windows": "List the closed training windows of a model.",
    "triggers": "List the decisions to retrain a model, with their reasons.",
    "retrain": "Request a retrain of a model.",
    "quarantine": "List what is set aside of the feeds, show it, and release or purge it.",
    "backtest": "Try other rules of retraining on the journal.",
    "explain": "Say why a version exists, or what became of an example.",
    "rebuild": "Train the versions of a model again, and compare them.",
    "train": "Train a model once on a folder, without Kafka.",
    "models": "List the versions of a model, show one, or choose the one that serves.",
    "lookup": "Say what covers a technique, an actor or a CVE, and from which feed.",
    "similar": "List the graph nodes that are most similar to a node.",
    "classify": "Say which techniques, tactics and severity a report is about, and which sentences say so.",
    "predict": "Say which techniques probably come next, and who uses them beside what was seen.",
    "ask": "Answer a question about a technique, actor, software or CVE.",
    "export": "Write the events, the ontology, the DSL, or a journal, to files.",
    "serve": "Answer over HTTP: classify texts, predict techniques.",
    "keys": "Make, list and revoke the API keys of the server.",
    "acls": "Print the access control list of each role, for a Kafka with an authorizer.",
    "archive": "Copy what is new on the topics to Parquet files.",
    "run": "Run a single process of the system.",
}
"""Command -> its summary. Each has a module of the same name in this package."""

NOT_ON_WINDOWS = (
    "it runs on Linux and macOS only: on Windows use WSL 2 (processes are watched and ended, folders flushed, "
    "and the champion linked, with calls that Windows does not have)"
)


class LazyCommands(TyperGroup):
    """A group that imports the module of a command when the command is used."""

    def __init__(self, **attrs: Any) -> None:
        listed = {name: TyperCommand(name, short_help=summary) for name, summary in COMMANDS.items()}
        super().__init__(**attrs | {"commands": listed})

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that the arguments name, imported; see `TyperGroup.resolve_command`."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed and load_command(str(name)), rest


def load_command(name: str) -> Any:
    """Import a command.

    Args:
        name: One of `COMMANDS`.

    Returns:
        The command, or the group of its subcommands, as the command-line library has it.
    """
    module = importlib.import_module(f"{__package__}.{name}")
    return typer.main.get_command(module.app)


app = typer.Typer(
    cls=LazyCommands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes longer to import than everything else that `sx9 --help` needs
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def global_options(
    state_dir: Annotated[
        Path | None,
        typer.Option(help="Folder for local services, cursors and logs (default: SX9_STATE_DIR, or .sx9)."),
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="Folder for models and exports (default: SX9_OUTPUT_DIR, or output).")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log debug messages to stderr.")] = False,
) -> None:
    """Threat-intelligence models that retrain themselves as new data arrives.

    Run `sx9 COMMAND --help` for the options of a command and an example.
    """
    for name, value in (("SX9_STATE_DIR", state_dir), ("SX9_OUTPUT_DIR", output_dir)):
        if value is not None:
            os.environ[name] = str(value)  # the settings, and the processes that a command starts, read it there
    logs.set_up("DEBUG" if verbose else "INFO")


def main() -> None:
    """Run the command line. Our own errors become one line on stderr and an exit code."""
    if sys.platform == "win32":
        _fail(BadConfiguration(NOT_ON_WINDOWS), 2)
    try:
        app()
    except BadConfiguration as error:
        _fail(error, 2)
    except Sx9Error as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _fail(error: Sx9Error, code: int) -> None:
    print(f"sx9: {without_secrets(str(error))}", file=sys.stderr)
    sys.exit(code)
