"""A worker that crashes while a thread hangs: `python -m tests.streams.app.crashed_worker BOOTSTRAP DIR`."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from pathlib import Path

from streams.app import worker
from streams.app.wiring import faust_app
from streams.app.worker import exit_at_sigterm, run_worker
from streams.settings import load_settings
from transport.logins import use_kafka_login

if __name__ == "__main__":
    bootstrap, folder = sys.argv[1], Path(sys.argv[2])
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    worker.STOP_TIMEOUT_S = 1.0
    settings = load_settings(state_dir=folder)
    use_kafka_login(bootstrap, settings.kafka_login)
    with exit_at_sigterm() as stop:
        app = faust_app("journal", settings, bootstrap)
        topic = app.topic("threat.techniques.v1", value_type=bytes, value_serializer="raw", internal=False)
        app.agent(topic)(lambda stream: stream)

        async def crash() -> None:
            hanging = asyncio.ensure_future(asyncio.to_thread(time.sleep, 3_600.0))
            await asyncio.sleep(0.1)
            raise RuntimeError(f"crashed beside {hanging}")

        app.timer(0.5)(crash)
        run_worker(app, stop)
