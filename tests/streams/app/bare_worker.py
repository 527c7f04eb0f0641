"""A worker whose agent does nothing, run as a role runs its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from streams.app.wiring import faust_app
from streams.app.worker import exit_at_sigterm, run_worker
from streams.settings import load_settings
from transport.logins import use_kafka_login


def run(bootstrap: str, folder: Path, prepare: Callable[[Any], object] = lambda _app: None) -> None:
    """Run it until it is stopped; `prepare` is called with its app before."""
    settings = load_settings(state_dir=folder)
    use_kafka_login(bootstrap, settings.kafka_login)
    with exit_at_sigterm() as stop:
        app = faust_app("journal", settings, bootstrap)
        topic = app.topic("threat.techniques.v1", value_type=bytes, value_serializer="raw", internal=False)
        app.agent(topic)(lambda stream: stream)
        prepare(app)
        run_worker(app, stop)
