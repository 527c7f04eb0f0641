"""One process at a time: an advisory lock on a file, freed by the kernel however its holder ends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from schemas.errors import RetryLater

log = logging.getLogger(__name__)

POLL_S = 0.1


@contextmanager
def held(path: Path, doing: str, cancelled: threading.Event, timeout_s: float = 900.0) -> Iterator[None]:
    """Hold the lock while the block runs; wait for another holder first.

    Args:
        path: The lock file; made if it isn't there, never removed.
        doing: What the holder does, for the log and the error: "downloading the jars of Kafka".
        cancelled: Ends the wait.
        timeout_s: Longest wait.

    Raises:
        RetryLater: Still held by another after `timeout_s`, or cancelled.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        deadline = time.monotonic() + timeout_s
        if not _taken(file):
            log.info("another process is %s; waiting for it", doing)
            while not _taken(file):
                if cancelled.wait(POLL_S):
                    raise RetryLater(f"stopped while another process was {doing}")
                if time.monotonic() > deadline:
                    raise RetryLater(
                        f"another process has been {doing} for over {timeout_s:.0f} s (it holds {path}): "
                        "stop it, or try again later"
                    )
        yield


def _taken(file: IO[str]) -> bool:
    """Take the lock if it is free; closing the file gives it back."""
    import fcntl  # not on Windows, where this is never called

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
