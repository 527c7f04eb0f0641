"""An archive has every record of a topic once, as it was, whatever interrupts it; a changed byte is seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from schemas.errors import BadConfiguration, Corrupt, RestartRequired, RetryLater
from schemas.topics import Topic
from tests.transport.filled_topics import append, filled_topic, in_transaction
from transport.archive import writing
from transport.archive.checking import check_archive
from transport.archive.layout import MANIFEST, read_manifest
from transport.archive.reading import Archive, without_kafka
from transport.archive.writing import Archived, archive_partition
from transport.kafka import consumer, read_range
from transport.storage import FolderStorage
from transport.topics import TopicIds

Facts = tuple[int, int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]


class World:
    """A topic of one partition, and its archive in a folder."""

    def __init__(self, admin: KafkaAdminClient, reader: KafkaConsumer, bootstrap: str, name: str, at: Path) -> None:
        self.admin, self.reader, self.bootstrap, self.name = admin, reader, bootstrap, name
        self.storage = FolderStorage(at)
        self.partition = TopicPartition(name, 0)

    def ids(self) -> TopicIds:
        return TopicIds(self.admin, [Topic(name=self.name, key="", partitions=1, record=None)])

    def archive(self, storage: FolderStorage | None = None, file_records: int = 4) -> Archived:
        return archive_partition(
            storage or self.storage, self.reader, self.ids(), self.partition, file_records=file_records
        )

    def archived(self) -> Archive:
        return Archive(self.storage, dict(self.ids()))

    def files(self) -> list[Path]:
        return sorted(self.storage.folder.rglob("*.parquet"))

    def in_archive(self, start: int = 0, end: int = 2**62) -> list[Facts]:
        return [facts(r) for batch in self.archived().read(self.name, 0, start, end) for r in batch]

    def on_topic(self, reader: KafkaConsumer | None = None, start: int = 0, end: int | None = None) -> list[Facts]:
        read = read_range(reader or self.reader, self.name, 0, start, end)
        return [facts(message) for messages in read for message in messages]

    def retention_deletes(self, before: int) -> None:
        self.admin.delete_records({self.partition: before})

    def archived_reader(self) -> KafkaConsumer:
        return consumer(self.bootstrap, self.archived())


def facts(record: object) -> Facts:
    """All of a record that matters."""
    names = ("offset", "timestamp", "timestamp_type", "key", "value")
    return (*(getattr(record, name) for name in names), list(getattr(record, "headers")))  # type: ignore[return-value]  # noqa: B009


@pytest.fixture
def world_of(
    admin: KafkaAdminClient, writer: KafkaProducer, reader: KafkaConsumer, kafka_bootstrap: str, tmp_path: Path
) -> Callable[[int], World]:
    def make(records: int) -> World:
        name = filled_topic(admin, writer, [records])
        return World(admin, reader, kafka_bootstrap, name, tmp_path / "archive")

    return make


def test_every_record_comes_back_with_key_value_headers_and_time(
    world_of: Callable[[int], World], writer: KafkaProducer
) -> None:
    world = world_of(0)
    sent = [
        (b"k", b"v", [("ce_id", b"1"), ("ce_id", b"\xff\x00"), ("n\N{SNOWMAN}", b"")], 1_700_000_000_123),
        (None, b"", [], 5),
        (b"", None, [], 4),  # a tombstone, with a time before the record before it
        (b"\x00\xff", b"x" * 300_000, [("big", b"y" * 5_000)], 1_700_000_009_999),
    ]
    for key, value, headers, time_ms in sent:
        writer.send(world.name, key=key, value=value, headers=headers, timestamp_ms=time_ms, partition=0)
    writer.flush()
    assert world.archive()[2:5] == (0, 4, 4)
    assert world.in_archive() == world.on_topic()
    assert [found[3:] for found in world.in_archive()] == [(key, value, headers) for key, value, headers, _ in sent]


def test_a_later_run_archives_what_is_new_and_nothing_twice(
    world_of: Callable[[int], World], writer: KafkaProducer
) -> None:
    world = world_of(10)
    assert world.archive()[2:5] == (0, 10, 10)
    first = {path: path.read_bytes() for path in world.files()}
    assert len(first) == 3
    assert world.archive()[2:5] == (10, 10, 0)
    append(writer, world.name, [3], first=10)
    assert world.archive()[2:5] == (10, 13, 3)
    assert world.in_archive() == world.on_topic()
    assert world.in_archive(5, 11) == world.on_topic(start=5, end=11)
    assert {path: path.read_bytes() for path in world.files() if path in first} == first
    assert len(world.files()) == 4
    (checked,) = check_archive(world.storage)
    assert (checked.start, checked.end, checked.records, checked.faults) == (0, 13, 13, ())


class Killed(BaseException):
    """The process is gone; nothing may catch it."""


class DyingStorage(FolderStorage):
    """A folder whose process is killed at its nth write, before it or after it."""

    def __init__(self, folder: Path, dies_at: int, *, after: bool) -> None:
        super().__init__(folder)
        self._left, self._after = dies_at, after

    def write(self, name: str, data: bytes) -> None:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Killed
        super().write(name, data)
        if self._left == 0:
            raise Killed


def test_wherever_a_run_is_killed_the_next_one_continues_without_loss_or_double(
    world_of: Callable[[int], World], tmp_path: Path, writer: KafkaProducer
) -> None:
    world = world_of(10)
    kills = 0
    for after in (False, True):
        for at in range(1, 9):
            world.storage = FolderStorage(tmp_path / f"{after}-{at}")
            try:
                world.archive(DyingStorage(world.storage.folder, at, after=after))
            except Killed:
                kills += 1
            world.archive()
            assert world.in_archive() == world.on_topic()
            (checked,) = check_archive(world.storage)
            assert (checked.records, checked.faults) == (10, ())
    assert kills == 12


def test_a_changed_byte_a_missing_file_and_a_damaged_manifest_are_named(world_of: Callable[[int], World]) -> None:
    world = world_of(10)
    world.archive()
    changed, missing, _ = world.files()
    data = bytearray(changed.read_bytes())
    data[len(data) // 2] ^= 1
    changed.write_bytes(data)
    missing.unlink()
    (checked,) = check_archive(world.storage)
    assert [(changed.name in fault, missing.name in fault) for fault in checked.faults] == [
        (True, False),
        (False, True),
    ]
    assert world.in_archive(8) == world.on_topic(start=8)  # what is not needed is not read
    with pytest.raises(Corrupt, match=f"{changed.name} has sha256 .* was written; restore it"):
        world.in_archive()
    with pytest.raises(Corrupt, match=f"{missing.name} is missing, but the manifest"):
        world.in_archive(4, 5)
    (manifest,) = world.storage.folder.rglob(MANIFEST)
    manifest.write_bytes(b"{")
    (checked,) = check_archive(world.storage)
    assert MANIFEST in checked.faults[0]
    with pytest.raises(Corrupt, match=r"manifest.json can't be read"):
        world.archive()


def test_what_retention_deleted_is_read_from_the_archive_and_the_rest_from_the_topic(
    world_of: Callable[[int], World], writer: KafkaProducer
) -> None:
    world = world_of(10)
    before = world.on_topic()
    world.archive()
    world.retention_deletes(6)
    with pytest.raises(Corrupt, match=r"begins at offset 6, but offset 0 is needed.*SX9_ARCHIVE_URL"):
        world.on_topic()
    append(writer, world.name, [2], first=10)
    together = world.archived_reader()
    try:
        assert world.on_topic(together)[:10] == before
        assert [found[0] for found in world.on_topic(together)] == list(range(12))
        assert world.on_topic(together, 2, 5) == before[2:5]
        assert world.on_topic(together, 6, 10) == before[6:]
    finally:
        together.close()


def test_records_that_neither_the_topic_nor_the_archive_has_are_an_error_with_the_gap(
    world_of: Callable[[int], World], writer: KafkaProducer
) -> None:
    world = world_of(4)
    world.archive()
    append(writer, world.name, [6], first=4)
    world.retention_deletes(7)
    together = world.archived_reader()
    with pytest.raises(Corrupt, match=r"begins at offset 7, but offset 0 .* has only offsets 0 to 4"):
        world.on_topic(together)
    together.close()
    with pytest.raises(Corrupt, match=r"begins at offset 7, but .* ends at 4: the records between them"):
        world.archive()


def test_an_archive_that_began_late_says_what_it_lacks(
    world_of: Callable[[int], World], caplog: pytest.LogCaptureFixture
) -> None:
    world = world_of(6)
    world.retention_deletes(2)
    assert world.archive()[2:5] == (2, 6, 4)
    assert "begins at offset 2" in caplog.text
    world.retention_deletes(6)
    together = world.archived_reader()
    assert [found[0] for found in world.on_topic(together, 2, 6)] == [2, 3, 4, 5]
    with pytest.raises(Corrupt, match=r"has only offsets 2 to 6"):
        world.on_topic(together, 0, 6)
    together.close()


def test_offsets_without_a_record_are_part_of_the_archive(world_of: Callable[[int], World]) -> None:
    world = world_of(3)
    in_transaction(world.bootstrap, world.name, [3, 4], commit=False)  # and a marker at 5
    in_transaction(world.bootstrap, world.name, [6, 7], commit=True)  # and a marker at 8
    assert world.archive(file_records=5)[2:5] == (0, 9, 5)
    assert [found[0] for found in world.in_archive()] == [0, 1, 2, 6, 7]
    assert world.archive()[2:5] == (9, 9, 0)
    in_transaction(world.bootstrap, world.name, [9], commit=False)
    assert world.archive()[2:5] == (9, 11, 0)
    assert world.archive()[2:5] == (11, 11, 0)


def test_a_topic_that_is_made_again_has_an_archive_of_its_own(
    world_of: Callable[[int], World], admin: KafkaAdminClient, writer: KafkaProducer
) -> None:
    world = world_of(5)
    world.archive()
    before = world.ids()
    old = world.in_archive()
    admin.delete_topics([world.name])
    admin.create_topics({world.name: {"num_partitions": 1, "replication_factor": 1}})
    admin.wait_for_topics([world.name])
    append(writer, world.name, [2])
    with pytest.raises(RestartRequired):
        archive_partition(FolderStorage(world.storage.folder / "x"), world.reader, before, world.partition)
    assert world.archive()[2:5] == (0, 2, 2)
    assert [found[0] for found in world.in_archive()] == [0, 1]
    alone = without_kafka(world.storage, world.name, 0, before[world.name])
    assert [facts(r) for batch in alone.read(0, 9) for r in batch] == old
    latest = without_kafka(world.storage, world.name, 0)
    assert latest.manifest.topic_id == world.ids()[world.name]
    with pytest.raises(BadConfiguration, match=r"has no records of .*/7"):
        without_kafka(world.storage, world.name, 7)


def test_a_topic_that_went_back_is_not_archived_as_if_it_were_the_same(
    world_of: Callable[[int], World], writer: KafkaProducer, admin: KafkaAdminClient
) -> None:
    world, other = world_of(5), filled_topic(admin, writer, [5])
    world.archive()
    known = read_manifest(world.storage, world.name, world.ids()[world.name], 0)
    foreign = World(admin, world.reader, world.bootstrap, other, world.storage.folder)
    ids = foreign.ids()
    folder = world.storage.folder / other / ids[other] / "0"
    folder.mkdir(parents=True)
    named = (world.storage.folder / world.name / known.topic_id / "0" / MANIFEST).read_text()
    mine = named.replace(world.name, other).replace(known.topic_id, ids[other])
    (folder / MANIFEST).write_text(mine)
    with pytest.raises(Corrupt, match="has another record at offset 4"):  # the same numbers, at another time
        foreign.archive()
    (folder / MANIFEST).write_text(mine.replace('"end": 5', '"end": 9'))
    with pytest.raises(Corrupt, match=r"ends at offset 5, but .* has offsets up to 9"):
        foreign.archive()


def test_two_processes_at_once_are_refused(
    world_of: Callable[[int], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = world_of(5)
    files = writing._files

    def another_first(*arguments: object) -> Iterator[object]:
        monkeypatch.setattr(writing, "_files", files)
        world.archive()
        yield from files(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(writing, "_files", another_first)
    with pytest.raises(RetryLater, match="changed by another process"):
        world.archive()
    assert world.in_archive() == world.on_topic()
