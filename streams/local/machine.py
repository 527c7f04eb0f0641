"""Checks the machine before something is started: disk space, memory, ports."""

from __future__ import annotations

import os
import random
import shutil
import socket
from pathlib import Path

import psutil

from schemas.errors import BadConfiguration

LOOPBACK = "127.0.0.1"
FREE_PORTS = range(20_000, 32_000)
"""Ports below those that Linux and macOS give to outgoing connections, which could take one at any time."""
MB = 1024 * 1024


PRIVATE_MODE = 0o700
"""Permissions of a folder that only its owner can open."""


def make_folder(folder: Path, setting: str, mode: int = 0o777) -> None:
    """Create a folder if it does not exist.

    Args:
        folder: The folder.
        setting: The environment variable that sets it, for the message.
        mode: Its permissions if it is created.

    Raises:
        BadConfiguration: It can't be created or written to.
    """
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        reason = None if os.access(folder, os.W_OK) else "no right to write"
    except OSError as error:
        reason = error.strerror
    if reason:
        raise BadConfiguration(f"can't use {folder} ({reason}): set {setting} to a folder you can write to")


def check_disk(folder: Path, needed_mb: int, setting: str, free_mb: int | None = None) -> None:
    """Refuse a folder on a disk that is nearly full. The folder is created if it does not exist.

    Args:
        folder: The folder.
        needed_mb: Required free space, MB.
        setting: The environment variable that sets the folder, for the message.
        free_mb: Free space, MB; None: measured.

    Raises:
        BadConfiguration: There is too little space, or the folder can't be used.
    """
    make_folder(folder, setting)
    free = shutil.disk_usage(folder).free // MB if free_mb is None else free_mb
    if free < needed_mb:
        raise BadConfiguration(
            f"{free} MB are free at {folder}, at least {needed_mb} MB are needed: free some, "
            f"or set {setting} to a folder on another disk"
        )


def check_memory(needs_mb: dict[str, int], available_mb: int | None = None) -> None:
    """Refuse to start services that do not fit into memory.

    Args:
        needs_mb: Service name -> memory that it needs, MB.
        available_mb: Memory available without swapping, MB; None: measured.

    Raises:
        BadConfiguration: Together they need more than is available.
    """
    available = psutil.virtual_memory().available // MB if available_mb is None else available_mb
    needed = sum(needs_mb.values())
    if available < needed:
        parts = ", ".join(f"{name} {mb} MB" for name, mb in needs_mb.items())
        heaps = " and ".join(f"SX9_{name.upper()}_HEAP_MB" for name in needs_mb)
        raise BadConfiguration(
            f"{available} MB of memory are available, {needed} MB are needed ({parts}): close other programs, "
            f"lower {heaps}, or use services on another machine (SX9_KAFKA_BOOTSTRAP, SX9_NEO4J_URI)"
        )


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback interface now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: TIME_WAIT does not block it
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(taken: set[int]) -> int:
    """A port of the loopback interface that is free now and not in `taken`."""
    while True:
        port = random.choice(FREE_PORTS)
        if port not in taken and is_free(port):
            return port
