"""What the machine must have before something is started: room on the disk, memory, a port."""

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
"""Below the ports that Linux and macOS give to outgoing connections, which would come and go under us."""
MB = 1024 * 1024


def make_folder(folder: Path, setting: str) -> None:
    """Make a folder if it isn't there.

    Args:
        folder: Where something will be written.
        setting: The environment variable that moves it, for the message.

    Raises:
        BadConfiguration: It can't be made, or not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = None if os.access(folder, os.W_OK) else "no right to write"
    except OSError as error:
        reason = error.strerror
    if reason:
        raise BadConfiguration(f"can't use {folder} ({reason}): set {setting} to a folder you can write to")


def check_disk(folder: Path, needed_mb: int, setting: str, free_mb: int | None = None) -> None:
    """Refuse a folder on a disk that is nearly full; the folder is made if it isn't there.

    Args:
        folder: Where something will be written.
        needed_mb: Least free room, MB.
        setting: The environment variable that moves the folder, for the message.
        free_mb: Free room, MB; None to measure it.

    Raises:
        BadConfiguration: Less room than needed, or the folder can't be used.
    """
    make_folder(folder, setting)
    free = shutil.disk_usage(folder).free // MB if free_mb is None else free_mb
    if free < needed_mb:
        raise BadConfiguration(
            f"{free} MB are free at {folder}, at least {needed_mb} MB are needed: free some, "
            f"or set {setting} to a folder on another disk"
        )


def check_memory(needs_mb: dict[str, int], available_mb: int | None = None) -> None:
    """Refuse to start what doesn't fit into memory.

    Args:
        needs_mb: Name of each service to be started to the memory it takes, MB.
        available_mb: Memory that is available without swapping, MB; None to measure it.

    Raises:
        BadConfiguration: Less is available than they need together.
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
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: TIME_WAIT doesn't block
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
