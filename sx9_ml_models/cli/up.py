"""`sx9 up`: the whole system on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from sx9_ml_models.cli.options import example, new_app

app = new_app()


@app.command(epilog=example("SX9_KAFKA_BOOTSTRAP=broker:9092 sx9 up"))
def up(
    monitoring: Annotated[
        bool, typer.Option("--monitoring", help="Start a Prometheus as well, with the alert rules.")
    ] = False,
    serve: Annotated[
        bool | None,
        typer.Option(
            "--serve/--no-serve", help="Start the server with its page as well (default: SX9_SERVE, or yes)."
        ),
    ] = None,
) -> None:
    """Run the whole system on this machine until Ctrl-C.

    Starts Kafka and Neo4j (unless SX9_KAFKA_BOOTSTRAP and SX9_NEO4J_URI name yours), the stream processors, one
    trainer per model, the fetchers, and the server, whose page shows what happens. With --monitoring also
    Prometheus; `docs/operations.md` has the rest.
    """
    from streams.settings import load_settings
    from sx9_ml_models import system

    given = {} if serve is None else {"serve": serve}
    system.up(load_settings(**given), monitoring=monitoring)
