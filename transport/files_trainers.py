"""Files that survive a power cut, and a lock between processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import RetryLater

LOCK_PATIENCE_S = 60.0


def sync(path: Path) -> None:
    """Have the disk hold a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Have the disk hold a folder and every file in it."""
    for path in folder.iterdir():
        sync(path)
    sync(folder)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file whole; a reader sees the old bytes or the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data)
    sync(partial)
    partial.replace(path)
    sync(path.parent)


def link_atomically(link: Path, target: str) -> None:
    """Point a symbolic link at a target relative to it; at every moment it is the old link or the new one."""
    partial = link.with_name(f".{link.name}.partial")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    partial.replace(link)
    sync(link.parent)


@contextlib.contextmanager
def locked(path: Path, doing: str) -> Iterator[None]:
    """Hold a lock file while the block runs; the system lets go of it when the process dies.

    Raises:
        RetryLater: Another process held it for `LOCK_PATIENCE_S`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RetryLater(
                        f"another process has been {doing} for {LOCK_PATIENCE_S:.0f} s ({path} is locked); "
                        "wait until it is done, or stop it"
                    ) from None
                time.sleep(0.2)
        yield
