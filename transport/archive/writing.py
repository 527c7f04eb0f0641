"""Archives what a partition has and its archive lacks.

topic, from the end of the archive ──> a Parquet file in memory ──> written ──> manifest with its name ──> the next

What was archived is never written again or changed. A second run writes nothing where nothing is new.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
from kafka import KafkaConsumer, TopicPartition

from schemas.archive import ArchivedFile, ArchiveManifest
from schemas.errors import Corrupt, RetryLater
from transport.archive.layout import MANIFEST, file_name, folder_of, path_of, read_manifest, write_manifest
from transport.archive.parquet import ParquetBuffer
from transport.kafka import end_offset, first_offset, read_range
from transport.partition_log import fingerprint
from transport.storage import Storage
from transport.topics import TopicIds

log = logging.getLogger(__name__)

FILE_RECORDS = 50_000
FILE_BYTES = 64 * 1024 * 1024
"""Records, and bytes of keys, values and headers, at which a file ends. A reader has one file in memory."""


class Archived(NamedTuple):
    """What a run did for a partition: the range of offsets that is new in the archive, its records and bytes."""

    topic: str
    partition: int
    start: int
    end: int
    records: int
    bytes: int


def archive_partition(
    storage: Storage,
    reader: KafkaConsumer,
    topics: TopicIds,
    partition: TopicPartition,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    file_records: int = FILE_RECORDS,
) -> Archived:
    """Archive what is new in a partition.

    Args:
        storage: Of the archive.
        reader: A consumer without a group and without an archive.
        topics: The ids of the topics, from before anything of them is read.
        partition: Which.
        on_progress: Called with offsets that are archived now, and all of this run.
        file_records: Records at which a file ends.

    Raises:
        Corrupt: The archive is damaged, ends after the topic, has other records than the topic, or lacks records
            that the topic does not have any more.
        RetryLater: Kafka or the storage does not answer, or another process archives this partition.
        RestartRequired: The topic was deleted or made again.
    """
    topic, number = partition
    manifest = read_manifest(storage, topic, topics[topic], number)
    end = end_offset(reader, topic, number)
    start = _start(storage, reader, manifest, end)
    done = Archived(topic, number, start, start, 0, 0)
    for file, data, mark in _files(reader, manifest, start, end, file_records):
        storage.write(path_of(manifest, file), data)
        topics.check()
        grown = msgspec.structs.replace(
            manifest, files=(*manifest.files, file), fingerprint=mark or manifest.fingerprint
        )
        _replace(storage, manifest, grown)
        manifest = grown
        done = done._replace(end=file.end, records=done.records + file.records, bytes=done.bytes + file.bytes)
        on_progress(file.end - start, end - start)
    return done


def _start(storage: Storage, reader: KafkaConsumer, manifest: ArchiveManifest, end: int) -> int:
    """Where to continue, after a look at whether the archive is of this log."""
    where = f"{storage.url}/{folder_of(manifest.topic, manifest.topic_id, manifest.partition)}"
    name = f"{manifest.topic}/{manifest.partition}"
    first = first_offset(reader, manifest.topic, manifest.partition)
    if not manifest.files:
        if first:
            log.warning("%s begins at offset %d: what was before it was deleted too early", name, first)
        return first
    if end < manifest.end:
        raise Corrupt(
            f"{name} ends at offset {end}, but {where} has offsets up to {manifest.end}: the topic lost records "
            "or was restored from an older copy; move the folder away to archive the topic as it is now"
        )
    if first > manifest.end:
        raise Corrupt(
            f"{name} begins at offset {first}, but {where} ends at {manifest.end}: the records between them were "
            "deleted before they were archived; move the folder away to begin a new archive, and archive more often"
        )
    last = [m for messages in _last(reader, manifest, first) for m in messages]
    if last and fingerprint(last[-1]) != manifest.fingerprint:
        raise Corrupt(
            f"{name} has another record at offset {last[-1].offset} than {where}: the topic was restored from "
            "another copy; move the folder away to archive the topic as it is now"
        )
    return manifest.end


def _last(reader: KafkaConsumer, manifest: ArchiveManifest, first: int) -> Iterator[list[Any]]:
    """The last archived record on the topic, if the topic still has it and the archive ends with a record."""
    if first < manifest.end:
        yield from read_range(reader, manifest.topic, manifest.partition, manifest.end - 1, manifest.end)


class _OpenFile:
    """A file while records are added to it."""

    def __init__(self, manifest: ArchiveManifest, start: int) -> None:
        self._start = start
        self._messages: tuple[Any, ...] = ()  # the first and the last
        self._buffer = ParquetBuffer(
            {"topic": manifest.topic, "topic_id": manifest.topic_id, "partition": str(manifest.partition)}
        )

    def add(self, message: Any) -> None:
        self._buffer.add(message)
        self._messages = (self._messages[0] if self._messages else message, message)

    def is_full(self, records: int) -> bool:
        return self._buffer.records >= records or self._buffer.bytes >= FILE_BYTES

    def finish(self, end: int) -> tuple[ArchivedFile, bytes, str]:
        """What the manifest says of the file up to an offset, its bytes, and the fingerprint of its last record."""
        data = self._buffer.finish()
        sha256 = hashlib.sha256(data).hexdigest()
        file = ArchivedFile(
            name=file_name(self._start, end, sha256),
            start=self._start,
            end=end,
            records=self._buffer.records,
            bytes=len(data),
            sha256=sha256,
            first_ms=self._messages[0].timestamp if self._messages else 0,
            last_ms=self._messages[-1].timestamp if self._messages else 0,
        )
        return file, data, fingerprint(self._messages[-1]) if self._messages else ""


def _files(
    reader: KafkaConsumer, manifest: ArchiveManifest, start: int, end: int, file_records: int
) -> Iterator[tuple[ArchivedFile, bytes, str]]:
    """The files for a range of offsets; see `_OpenFile.finish`."""
    file = _OpenFile(manifest, start)
    for messages in read_range(reader, manifest.topic, manifest.partition, start, end):
        for message in messages:
            file.add(message)
            if file.is_full(file_records):
                start = message.offset + 1
                yield file.finish(start)
                file = _OpenFile(manifest, start)
    if start < end:
        yield file.finish(end)


def _replace(storage: Storage, before: ArchiveManifest, after: ArchiveManifest) -> None:
    """Write a manifest, unless another process has written one since."""
    found = read_manifest(storage, before.topic, before.topic_id, before.partition)
    if found != before:
        folder = folder_of(before.topic, before.topic_id, before.partition)
        raise RetryLater(
            f"{storage.url}/{folder}/{MANIFEST} was changed by another process: let only one process archive"
        )
    write_manifest(storage, after)
