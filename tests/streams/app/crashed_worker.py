"""A worker that crashes while a thread hangs: `python -m tests.streams.app.crashed_worker BOOTSTRAP DIR`."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from pathlib import Path

from streams.app import worker
from tests.streams.app.bare_worker import run


async def crash() -> None:
    """Start a thread that hangs, and fail."""
    hanging = asyncio.ensure_future(asyncio.to_thread(time.sleep, 3_600.0))
    await asyncio.sleep(0.1)
    raise RuntimeError(f"crashed beside {hanging}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    worker.STOP_TIMEOUT_S = 1.0
    run(sys.argv[1], Path(sys.argv[2]), lambda app: app.timer(0.5)(crash))
