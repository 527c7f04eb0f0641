"""A service that starts in half a second: the web server of the Java runtime, under the real watchdog."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streams.local.machine import is_free


@dataclass(frozen=True)
class Web:
    """Serves its home folder; `extra` goes before Java's own options, to make it fail."""

    home: Path
    lock: Path
    port: int = 0
    extra: tuple[str, ...] = ()
    answers: bool = True
    name: str = "web"
    title: str = "Web"
    port_count: int = 1
    heap_mb: int = 16
    records: bool = False
    memory_mb: int = 50

    def prepare(self, ports: Sequence[int], _java: Sequence[str]) -> list[str]:
        return [*self.extra, "-m", "jdk.httpserver", "-b", "127.0.0.1", "-p", str(ports[0]), "-d", str(self.home)]

    def is_ready(self, port: int) -> bool:
        return self.answers and not is_free(port)
