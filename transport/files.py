"""Atomic file writes, flushes to disk, file hashes, and locks between processes."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import psutil

from schemas.errors import RetryLater

log = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 60.0
_LOCK_POLL_S = 0.1
_UNFINISHED = re.compile(r"\..+\.(\d+)\.tmp")
"""A file that `write_atomically` has not renamed yet, with the process that writes it."""


def sync(path: Path) -> None:
    """Flush a file, or the list of names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Flush a folder and every file directly in it to the disk."""
    for path in folder.iterdir():
        sync(path)
    sync(folder)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the content of a file: readers see the old bytes or the new ones, even after a power failure.

    Args:
        path: The file; missing parent folders are created.
        data: The new content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync(path.parent)


def remove_unfinished(folder: Path, depth: int = 2) -> list[Path]:
    """Remove what `write_atomically` left in a folder when a process was killed in it.

    Args:
        folder: It need not exist.
        depth: Levels of folders below it that are looked at.

    Returns:
        The files that were removed. Those of a process that still runs stay.
    """
    found = [path for level in range(depth + 1) for path in folder.glob("*/" * level + ".*.tmp")]
    left = [
        path
        for path in found
        if (writer := _UNFINISHED.fullmatch(path.name)) and not psutil.pid_exists(int(writer[1]))
    ]
    for path in left:
        path.unlink(missing_ok=True)
    return left


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def link_atomically(link: Path, target: str) -> None:
    """Replace a symbolic link: readers see the old target or the new one.

    Args:
        link: The link; it need not exist yet.
        target: The new target, relative to the folder of the link.
    """
    temporary = link.with_name(f".{link.name}.partial")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
    sync(link.parent)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def lock(
    path: Path,
    doing: str,
    *,
    timeout_s: float = LOCK_TIMEOUT_S,
    cancel_check: Callable[[], bool] | None = None,
    on_acquired: Callable[[int], None] | None = None,
) -> Iterator[None]:
    """Hold an exclusive lock on a file while the block runs.

    The kernel releases it when the process and all that inherited the descriptor have ended, however they end.

    Args:
        path: The lock file; created if missing, never removed.
        doing: What the holder does, for the log and the error: `downloading the jars of Kafka`.
        timeout_s: Longest wait for another holder, seconds.
        cancel_check: Called while waiting; the wait ends when it returns true.
        on_acquired: Called with the file descriptor that holds the lock.

    Raises:
        RetryLater: Another process still holds the lock after `timeout_s`, or the wait was cancelled.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file_lock = filelock.FileLock(
        path,
        thread_local=False,  # another thread of the holder may release it
        preserve_lock_file=True,
        fallback_to_soft=False,
        poll_interval=_LOCK_POLL_S,
        on_acquired=on_acquired,
    )
    try:
        file_lock.acquire(timeout=0)
    except filelock.Timeout:
        _wait(file_lock, path, doing, timeout_s, cancel_check)
    try:
        yield
    finally:
        file_lock.release()


def _wait(
    file_lock: filelock.BaseFileLock,
    path: Path,
    doing: str,
    timeout_s: float,
    cancel_check: Callable[[], bool] | None,
) -> None:
    is_cancelled = cancel_check or (lambda: False)
    try:
        if not is_cancelled():
            log.info("another process is %s; waiting for it", doing)
        file_lock.acquire(timeout=timeout_s, cancel_check=is_cancelled)
    except filelock.Timeout:
        if is_cancelled():
            raise RetryLater(f"stopped waiting while another process was {doing}") from None
        raise RetryLater(
            f"another process has been {doing} for over {timeout_s:.0f} s (it holds {path}): "
            "stop it, or try again later"
        ) from None
