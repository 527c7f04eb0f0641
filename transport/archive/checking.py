"""Whether every file of an archive is what was written, and what is there beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from schemas.archive import ArchivedFile, ArchiveManifest
from schemas.errors import Corrupt
from transport.archive.layout import MANIFEST, folder_of, partitions_in, read_manifest
from transport.archive.parquet import records_in
from transport.archive.reading import ArchivedPartition
from transport.storage import Storage


class Checked(NamedTuple):
    """The result for one partition.

    Attributes:
        topic, topic_id, partition: Which.
        start, end, records, bytes: What its manifest says.
        faults: What is wrong, each with the name of the file and the remedy.
        unnamed: Files that no manifest names: a run was killed before it named them. They are not read, and may be
            deleted while nothing archives.
    """

    topic: str
    topic_id: str
    partition: int
    start: int
    end: int
    records: int
    bytes: int
    faults: tuple[str, ...]
    unnamed: tuple[str, ...]


def check_archive(storage: Storage) -> Iterator[Checked]:
    """Read every file of every partition, and compare it with its manifest.

    Yields:
        A result for each partition, as soon as it is there.

    Raises:
        RetryLater, BadConfiguration: The storage does not answer, or refuses.
    """
    for topic, topic_id, partition in partitions_in(storage):
        folder = folder_of(topic, topic_id, partition)
        try:
            manifest = read_manifest(storage, topic, topic_id, partition)
        except Corrupt as error:
            yield Checked(topic, topic_id, partition, 0, 0, 0, 0, (str(error),), ())
            continue
        named = {file.name for file in manifest.files} | {MANIFEST}
        yield Checked(
            topic,
            topic_id,
            partition,
            manifest.start,
            manifest.end,
            sum(file.records for file in manifest.files),
            sum(file.bytes for file in manifest.files),
            tuple(_faults(storage, manifest)),
            tuple(f"{folder}/{name}" for name in storage.names(folder) if name not in named),
        )


def _faults(storage: Storage, manifest: ArchiveManifest) -> Iterator[str]:
    log = ArchivedPartition(storage, manifest)
    for file in manifest.files:
        try:
            fault = _fault(log, file)
        except (Corrupt, ValueError) as error:
            fault = str(error)
        if fault:
            yield fault


def _fault(log: ArchivedPartition, file: ArchivedFile) -> str:
    """What is wrong with the records of a file whose bytes are right."""
    data, topic, partition = log.verified(file), log.topic, log.partition
    offsets = [r.offset for batch in records_in(data, topic, partition, 0, 2**63 - 1) for r in batch]
    if len(offsets) != file.records:
        return f"{file.name} has {len(offsets)} records, not {file.records}"
    if offsets != sorted(set(offsets)) or (offsets and not file.start <= offsets[0] <= offsets[-1] < file.end):
        return f"{file.name} has offsets that are not in order in [{file.start}, {file.end})"
    return ""
