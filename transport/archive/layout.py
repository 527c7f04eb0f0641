"""Where the parts of an archive are, and the manifest of a partition: read, checked, written."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from schemas.archive import ArchivedFile, ArchiveManifest
from schemas.codec import decode
from schemas.errors import BadRecord, Corrupt
from transport.storage import Storage

MANIFEST = "manifest.json"
_REMEDY = (
    "restore it from a backup of the archive; if there is none, move the folder away and archive the topic again"
)


def folder_of(topic: str, topic_id: str, partition: int) -> str:
    """The folder of a partition.

    >>> folder_of("retrain.journal.v1", "0b5e4a4c", 2)
    'retrain.journal.v1/0b5e4a4c/2'
    """
    return f"{topic}/{topic_id}/{partition}"


def file_name(start: int, end: int, sha256: str) -> str:
    """The name of a file: other bytes have another name."""
    return f"{start:020d}-{end:020d}.{sha256[:16]}.parquet"


def read_manifest(storage: Storage, topic: str, topic_id: str, partition: int) -> ArchiveManifest:
    """The manifest of a partition, without files if there is none.

    Raises:
        Corrupt: It can't be decoded, is of another partition, or its files leave a gap.
    """
    path = f"{folder_of(topic, topic_id, partition)}/{MANIFEST}"
    try:
        manifest: ArchiveManifest = decode(storage.read(path), ArchiveManifest)
    except FileNotFoundError:
        return ArchiveManifest(topic=topic, topic_id=topic_id, partition=partition)
    except BadRecord as error:
        raise Corrupt(f"{storage.url}/{path} can't be read ({error}); {_REMEDY}") from error
    if (manifest.topic, manifest.topic_id, manifest.partition) != (topic, topic_id, partition):
        raise Corrupt(
            f"{storage.url}/{path} is of {manifest.topic}/{manifest.topic_id}/{manifest.partition}; {_REMEDY}"
        )
    if manifest.gap:
        raise Corrupt(f"{storage.url}/{path}: {manifest.gap}; {_REMEDY}")
    return manifest


def write_manifest(storage: Storage, manifest: ArchiveManifest) -> None:
    """Write or replace the manifest of a partition."""
    folder = folder_of(manifest.topic, manifest.topic_id, manifest.partition)
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    storage.write(f"{folder}/{MANIFEST}", text + b"\n")


def path_of(manifest: ArchiveManifest, file: ArchivedFile) -> str:
    """The path of a file."""
    return f"{folder_of(manifest.topic, manifest.topic_id, manifest.partition)}/{file.name}"


def partitions_in(storage: Storage) -> Iterator[tuple[str, str, int]]:
    """(topic, id of the topic, partition) of every partition that an archive has a folder of."""
    for topic in storage.names():
        for topic_id in storage.names(topic):
            numbers = (name for name in storage.names(f"{topic}/{topic_id}") if name.isdecimal())
            yield from ((topic, topic_id, number) for number in sorted(map(int, numbers)))
