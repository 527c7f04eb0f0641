"""Examples with their places in the journal."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Protocol

from schemas.journal import Example, Held, Record, SeenOffsets, is_redelivery, source_partition
from trainers.store.journal_reader import JournalReader
from transport.partition_file import PartitionFile
from transport.partition_log import PartitionLog, records_between
from transport.records import decoded

Placed = tuple[int, Example]
"""Journal offset, example."""
Seen = dict[str, SeenOffsets]
"""Topic partition of events -> the events of it that journal records were made from."""


class KeyedJournal(Protocol):
    """A journal whose examples are found by their keys."""

    def __call__(self, keys: Collection[str], start: int, end: int, seen: Seen) -> Iterable[Placed]:
        """The examples with some keys and offsets in `[start, end)`, in order, without redeliveries.

        Args:
            keys: The keys.
            start: First offset.
            end: End offset, exclusive.
            seen: Of earlier records of the journal with these keys.
        """


def keyed_file(file: PartitionFile) -> KeyedJournal:
    """A journal in a file, in which only the records with the keys are decoded."""

    def find(keys: Collection[str], start: int, end: int, seen: Seen) -> Iterable[Placed]:
        messages = file.with_keys(keys, start, end)
        return _with_keys(keys, decoded(messages, Record, file.topic, file.partition), seen)

    return find


def keyed_copy(copy: JournalReader, log: PartitionLog) -> KeyedJournal:
    """A journal that is looked up in its copy, as far as that goes, and from there on read."""

    def find(keys: Collection[str], start: int, end: int, seen: Seen) -> Iterator[Placed]:
        yield from copy.examples_with_keys(keys, start, end)
        yield from _with_keys(keys, records_between(log, Record, max(start, copy.next_offset), end), seen)

    return find


def _with_keys(keys: Collection[str], records: Iterable[tuple[HasOffset, Any]], seen: Seen) -> Iterator[Placed]:
    return (each for each in new_examples(records, seen) if each[1].key in keys)


class HasOffset(Protocol):
    """A message of a journal."""

    @property
    def offset(self) -> int:
        """Its offset."""


def new_examples(records: Iterable[tuple[HasOffset, Any]], seen: Seen) -> Iterator[Placed]:
    """The examples among records, without those that repeat an earlier one or one that was set aside before.

    Args:
        records: Messages of a journal with their records, in order.
        seen: Of earlier records; those of these are added.
    """
    for message, record in records:
        if isinstance(record, Example | Held):
            source = record.example.source if isinstance(record, Held) else record.source
            is_new = not is_redelivery(source, seen.setdefault(source_partition(source), {}))
            if is_new and isinstance(record, Example):
                yield message.offset, record
