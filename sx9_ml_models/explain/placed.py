"""Examples with their places in the journal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from schemas.journal import Example, Held, SeenOffsets, is_redelivery, source_partition

Placed = tuple[int, Example]
"""Journal offset, example."""


class HasOffset(Protocol):
    """A message of a journal."""

    @property
    def offset(self) -> int:
        """Its offset."""


def new_examples(records: Iterable[tuple[HasOffset, Any]]) -> Iterator[Placed]:
    """The examples among records, without those that repeat an earlier one or one that was set aside before.

    Args:
        records: Messages of a journal with their records, in order.
    """
    seen: dict[str, SeenOffsets] = {}
    for message, record in records:
        if isinstance(record, Example | Held):
            source = record.example.source if isinstance(record, Held) else record.source
            is_new = not is_redelivery(source, seen.setdefault(source_partition(source), {}))
            if is_new and isinstance(record, Example):
                yield message.offset, record
