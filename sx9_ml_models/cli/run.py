"""`sx9 run`: one process of the system."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from sx9_ml_models.cli.options import DEFAULT_MODEL, Model, example, new_app

app = new_app()


class RoleName(enum.StrEnum):
    """The names in `sx9_ml_models.roles.NAMES`, which take seconds to import."""

    JOURNAL = "journal"
    GRAPH = "graph"
    FOLD = "fold"
    TRAIN = "train"
    FETCH = "fetch"
    ARCHIVE = "archive"
    CLASSIFY = "classify"
    SERVE = "serve"


@app.command(epilog=example("SX9_KAFKA_BOOTSTRAP=broker:9092 sx9 run train --model gnn-threat"))
def run(
    role: Annotated[RoleName, typer.Argument(help="The process to run.")],
    model: Model = DEFAULT_MODEL,
) -> None:
    """Run a single process of the system.

    `sx9 up` starts all of them. Use this on a cluster, or to debug one. Only `train` uses --model.
    """
    from streams.settings import load_settings
    from sx9_ml_models import roles

    roles.run(role.value, load_settings(), model)
