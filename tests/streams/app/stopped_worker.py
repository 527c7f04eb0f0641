"""A worker that gets SIGTERM while it starts: `python -m tests.streams.app.stopped_worker BOOTSTRAP DIR STAGE`.

STAGE is how many services of the worker begin to start before the signal. The exit code is that of a role.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from mode.services import Service

from streams.app import worker
from tests.streams.app.bare_worker import run

if __name__ == "__main__":
    bootstrap, folder, stage = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    started, start = itertools.count(), Service.start

    async def start_after_sigterm(self: Any) -> None:
        if next(started) == stage:
            os.kill(os.getpid(), signal.SIGTERM)
        await start(self)

    Service.start = start_after_sigterm  # type: ignore[method-assign]
    worker.STOP_TIMEOUT_S = 3_600.0  # so that the test sees whether it stops by itself
    run(bootstrap, folder)
