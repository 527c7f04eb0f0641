"""The manifest of an archived partition of a topic: its files, by range of offsets."""

from __future__ import annotations

import msgspec


class ArchivedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One Parquet file.

    Attributes:
        name: Its name, in the folder of the manifest.
        start, end: The half-open range of offsets that it stands for. Some of them may have no record: those of
            markers and of aborted transactions.
        records: The number of its records.
        bytes: Its size.
        sha256: Of its bytes.
        first_ms, last_ms: Timestamps of its first and its last record, ms since 1970 UTC; 0 if it has none.
    """

    name: str
    start: int
    end: int
    records: int
    bytes: int
    sha256: str
    first_ms: int = 0
    last_ms: int = 0


class ArchiveManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is archived of one partition; `manifest.json` beside its files.

    Attributes:
        topic, topic_id, partition: Of which partition; Kafka gave the id to the topic.
        files: In the order of their offsets, without a gap or an overlap.
        fingerprint: Of the last record, see `transport.partition_log.fingerprint`; empty if there is none.
    """

    topic: str
    topic_id: str
    partition: int
    files: tuple[ArchivedFile, ...] = ()
    fingerprint: str = ""

    @property
    def start(self) -> int:
        """The first offset of the first file; 0 if there is none."""
        return self.files[0].start if self.files else 0

    @property
    def end(self) -> int:
        """The offset after the last file; 0 if there is none."""
        return self.files[-1].end if self.files else 0

    @property
    def gap(self) -> str:
        """Where a file does not begin at the end of the one before it; empty if all do."""
        pairs = zip(self.files, self.files[1:], strict=False)
        return next((f"{b.name} begins at {b.start}, not {a.end}" for a, b in pairs if a.end != b.start), "")
