"""What the local Kafka and the local Neo4j have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from streams.local.jars import lock_file


@dataclass(frozen=True)
class LocalService:
    """Settings of a local service. Its subclasses are `streams.local.process.Service`s.

    Args:
        home: Folder of its data and configuration.
        port: Port to listen on; 0: a free one.
        heap_mb: Its heap, MB.
        more: Further lines of its configuration: name -> value; they override ours.
        has_password: Whether it asks for the password of `streams.local.passwords`.
        records: Whether Java writes a cache of its classes when it ends; see `streams.local.aot_cache`.
    """

    home: Path
    port: int
    heap_mb: int
    more: Mapping[str, str] = field(default_factory=dict, repr=False, kw_only=True)
    has_password: bool = field(default=True, kw_only=True)
    records: bool = field(default=False, kw_only=True)
    name: ClassVar[str]
    title: ClassVar[str]
    port_count: ClassVar[int]
    overhead_mb: ClassVar[int]
    """Memory outside the heap, MB."""

    @property
    def lock(self) -> Path:
        """The lock file of its jars."""
        return lock_file(self.name)

    @property
    def memory_mb(self) -> int:
        """Memory that it needs, MB."""
        return self.heap_mb + self.overhead_mb
