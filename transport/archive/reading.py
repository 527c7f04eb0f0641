"""A partition of an archive as a log that is read by offset, and an archive as what a consumer lacks.

Every file is compared with its sha256 before a record of it is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from schemas.archive import ArchivedFile, ArchiveManifest
from schemas.errors import BadConfiguration, Corrupt
from transport.archive.layout import partitions_in, path_of, read_manifest
from transport.archive.parquet import ArchivedRecord, records_in
from transport.storage import Storage

_REMEDY = "restore it from a backup of the archive"


class ArchivedPartition:
    """A partition of an archive; it is a `transport.partition_log.PartitionLog`.

    Args:
        storage: Of the archive.
        manifest: Of the partition.

    Raises:
        Corrupt: A file is missing, or is not what was written; the message names it. So does every method.
        RetryLater: The storage does not answer. So does every method.
    """

    def __init__(self, storage: Storage, manifest: ArchiveManifest) -> None:
        self.topic = manifest.topic
        self.partition = manifest.partition
        self.manifest = manifest
        self._storage = storage
        self._latest: tuple[ArchivedFile, bytes] | None = None

    @property
    def start(self) -> int:
        """The first offset."""
        return self.manifest.start

    def end(self) -> int:
        """The offset after the last one; 0 if nothing is archived."""
        return self.manifest.end

    def read(self, start: int, end: int) -> Iterator[Sequence[ArchivedRecord]]:
        """The records with offsets in `[start, end)`, in order, in batches."""
        for file in self.manifest.files:
            if file.records and file.start < end and file.end > start:
                data = self.verified(file)
                try:
                    yield from records_in(data, self.topic, self.partition, start, end)
                except ValueError as error:
                    raise Corrupt(f"{self._path(file)} can't be read ({error}); {_REMEDY}") from error

    def verified(self, file: ArchivedFile) -> bytes:
        """The bytes of a file, after they were compared with its sha256. The latest file stays in memory."""
        if self._latest and self._latest[0] == file:
            return self._latest[1]
        self._latest = None
        try:
            data = self._storage.read(path_of(self.manifest, file))
        except FileNotFoundError as error:
            raise Corrupt(f"{error}, but the manifest of the archive names it; {_REMEDY}") from error
        found = hashlib.sha256(data).hexdigest()
        if found != file.sha256:
            raise Corrupt(f"{self._path(file)} has sha256 {found}, but {file.sha256} was written; {_REMEDY}")
        self._latest = (file, data)
        return data

    def _path(self, file: ArchivedFile) -> str:
        return f"{self._storage.url}/{path_of(self.manifest, file)}"


class Archive:
    """The partitions of the topics of one Kafka in an archive: a `transport.kafka.RangeArchive`.

    Args:
        storage: Of the archive.
        topic_ids: Topic -> its id.

    Attributes:
        url: Where it is.
    """

    def __init__(self, storage: Storage, topic_ids: Mapping[str, str]) -> None:
        self.url = storage.url
        self._storage = storage
        self._topic_ids = topic_ids
        self._partitions: dict[tuple[str, int], ArchivedPartition] = {}

    def partition(self, topic: str, number: int) -> ArchivedPartition:
        """A partition, as it was archived at the first call; without records if it was not.

        Raises:
            Corrupt, RetryLater: Its manifest can't be used, or the storage does not answer.
        """
        if (topic, number) not in self._partitions:
            manifest = read_manifest(self._storage, topic, self._topic_ids[topic], number)
            self._partitions[(topic, number)] = ArchivedPartition(self._storage, manifest)
        return self._partitions[(topic, number)]

    def covered(self, topic: str, number: int) -> tuple[int, int]:
        """The half-open range of offsets that it has of a partition; empty if none."""
        found = self.partition(topic, number)
        return found.start, found.end()

    def read(self, topic: str, number: int, start: int, end: int) -> Iterator[Sequence[ArchivedRecord]]:
        """Records of a partition; see `ArchivedPartition.read`."""
        yield from self.partition(topic, number).read(start, end)


def without_kafka(storage: Storage, topic: str, partition: int, topic_id: str = "") -> ArchivedPartition:
    """A partition of an archive whose Kafka is gone.

    Args:
        storage: Of the archive.
        topic: Name of the topic.
        partition: Its number.
        topic_id: Which of several topics with this name; empty: that with the latest record.

    Raises:
        BadConfiguration: The archive has no such partition.
    """
    ids = [found for name, found, number in partitions_in(storage) if (name, number) == (topic, partition)]
    manifests = [read_manifest(storage, topic, each, partition) for each in ids if topic_id in ("", each)]
    manifests = [manifest for manifest in manifests if manifest.files]
    if not manifests:
        known = f"; it has it of the topic ids {', '.join(ids)}" if ids else ""
        raise BadConfiguration(f"{storage.url} has no records of {topic}/{partition} {topic_id}{known}")
    return ArchivedPartition(storage, max(manifests, key=lambda manifest: manifest.files[-1].last_ms))
