"""`sx9 serve`: the HTTP server."""

from __future__ import annotations

from typing import Annotated

import typer

from sx9_ml_models.cli.options import example, new_app

app = new_app()


@app.command(epilog=example("sx9 serve --port 8080"))
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (default: SX9_SERVE_HOST, or 127.0.0.1).")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port (default: SX9_SERVE_PORT, or 18114).")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="What `distilbert-mitre` computes in: float32 or int8 (default: SX9_SERVE_PRECISION, or float32)."
        ),
    ] = None,
) -> None:
    """Answer over HTTP: classify texts, predict techniques.

    The version of each model that serves follows promotions and rollbacks. The routes are described at /docs.
    """
    from serving.settings import load_serve_settings
    from streams.settings import load_settings
    from sx9_ml_models.serving import run_server

    options = {"host": host, "port": port, "precision": precision}
    given = {name: value for name, value in options.items() if value is not None}
    run_server(load_settings(metrics_port=0), load_serve_settings(**given))  # the port set is that of `sx9 up`
