"""The journal of a model derived anew from the events on their topics, with today's code.

    threat.* topics ──project──> examples ──> SQLite, by event ──┐
    recorded journal ──> order, ticks, policy, answers ──────────┴──> a journal in a file

Each example takes the place of the recorded one that came of the same event; what only today's code makes of an
event comes before the next example of its topic partition. As long as there is no such example, the offsets are the
recorded ones. The events have no order across their partitions, no ticks and no policy: those are from the recorded
journal.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from kafka import KafkaConsumer

from schemas.codec import decode, encode, encode_message
from schemas.errors import BadRecord
from schemas.events import Event
from schemas.journal import Example, Held, Record, SeenOffsets, Source, is_redelivery, source_partition
from schemas.models import model_spec
from schemas.topics import topics_of
from streams.app.catch_up import from_kafka
from streams.app.journal_sink import example_of
from transport.files import write_atomically
from transport.kafka import end_offset, read_ranges
from transport.partition_file import FileMessage, write_partition
from transport.partition_log import PartitionLog, records_between
from transport.records import ConsumerRecord, decoded
from transport.topics import partitions_of

JOURNAL_FILE, COUNTS_FILE, EVENTS_FILE = "journal.jsonl", "derived.json", "events.sqlite"
BATCH = 1_000
TABLE = """
    CREATE TABLE examples (
        partition TEXT, offset INTEGER, topic_id TEXT, timestamp INTEGER, value BLOB,
        PRIMARY KEY (partition, offset)
    ) WITHOUT ROWID;
"""
Row = tuple[int, str, int, bytes]
"""Event offset, id of its topic, broker time, encoded example."""


class Derived(msgspec.Struct, kw_only=True):
    """How a derived journal compares with the recorded one.

    Attributes:
        same: Examples that are the recorded ones.
        changed: Examples that today's code makes otherwise, in their labels, text, key or anything else.
        new: Examples of events of which the recorded journal has none.
        gone: Recorded examples of which today's code makes none, or whose event is on its topic no more.
        controls: Records that are no examples, as they were recorded: ticks, policies, requests, scores, answers,
            and what was set aside, with the verdicts on it.
    """

    same: int = 0
    changed: int = 0
    new: int = 0
    gone: int = 0
    controls: int = 0


class DerivedJournal:
    """A journal in which each example is made again: a `PartitionLog` that is read once, from its beginning.

    Args:
        recorded: The recorded journal.
        end: Where it ends.
        examples: A database with the examples of today's code; see `read_examples`.

    Attributes:
        counts: Of what was read so far.
    """

    def __init__(self, recorded: PartitionLog, end: int, examples: sqlite3.Connection) -> None:
        self.topic, self.partition = recorded.topic, recorded.partition
        self.counts = Derived()
        self._recorded, self._recorded_end, self._db = recorded, end, examples
        self._next = 0
        self._read: dict[str, int] = {}
        self._seen: dict[str, SeenOffsets] = {}

    def end(self) -> int:
        """More than any offset."""
        return 2**62

    def read(self, _start: int, _end: int) -> Iterator[Sequence[ConsumerRecord]]:
        """All messages, in batches."""
        batch: list[ConsumerRecord] = []
        for message in self._messages():
            batch.append(message)
            if len(batch) >= BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def _messages(self) -> Iterator[FileMessage]:
        for message, record in records_between(self._recorded, Record, 0, self._recorded_end):
            if isinstance(record, Example):
                yield from self._example(message, record)
            else:
                if isinstance(record, Held):
                    yield from self._until(record.example.source)
                self.counts.controls += 1
                yield self._placed(message.offset, message.timestamp, bytes(message.value))
        left: list[Row] = []
        for (partition,) in self._db.execute("SELECT DISTINCT partition FROM examples").fetchall():
            left += self._rows(partition, self._read.get(partition, -1) + 1, 2**62)
        yield from self._new(sorted(left, key=lambda row: row[2]))

    def _example(self, message: ConsumerRecord, record: Example) -> Iterator[FileMessage]:
        source = record.source
        redelivered = is_redelivery(source, self._seen.setdefault(source_partition(source), {}))
        yield from self._until(source)
        rows = self._rows(source.topic_partition, source.offset, source.offset + 1)
        rows = [row for row in rows if source.topic_id in ("", row[1])]
        if not rows:
            self.counts.gone += not redelivered
            return
        made: Example = decode(rows[0][3], Example)
        made = msgspec.structs.replace(made, source=source)  # an older record may say less of its event
        if not redelivered:
            self.counts.same += made == record
            self.counts.changed += made != record
        yield self._placed(message.offset, message.timestamp, encode(made))

    def _until(self, source: Source) -> Iterator[FileMessage]:
        """What only today's code makes of the events of a topic partition before one that was recorded."""
        partition = source.topic_partition
        first = self._read.get(partition, -1) + 1
        if source.offset >= first:
            yield from self._new(self._rows(partition, first, source.offset))
            self._read[partition] = source.offset

    def _rows(self, partition: str, start: int, end: int) -> list[Row]:
        query = (
            "SELECT offset, topic_id, timestamp, value FROM examples WHERE partition = ? AND offset >= ? AND "
            "offset < ? ORDER BY offset"
        )
        return self._db.execute(query, (partition, start, end)).fetchall()

    def _new(self, rows: Sequence[Row]) -> Iterator[FileMessage]:
        for _, _, timestamp, value in rows:
            self.counts.new += 1
            yield self._placed(0, timestamp, value)

    def _placed(self, offset: int, timestamp: int, value: bytes) -> FileMessage:
        offset = max(offset, self._next)
        self._next = offset + 1
        return FileMessage(offset, timestamp, value)


def derive(
    model: str,
    recorded: PartitionLog,
    end: int,
    reader: KafkaConsumer,
    topic_ids: Mapping[str, str],
    folder: Path,
    on_progress: Callable[[int, int], None],
) -> tuple[Path, Derived]:
    """Derive the journal of a model, unless the folder has one.

    Args:
        model: The model.
        recorded: Its journal.
        end: Where the recorded journal ends.
        reader: A consumer without a group.
        topic_ids: Topic -> id.
        folder: Of the files.
        on_progress: Called with the events that were read, and their number.

    Returns:
        The file of the journal, and how it compares.

    Raises:
        Corrupt: The beginning of a topic was deleted, and no archive has it.
        RetryLater: Kafka does not answer.
    """
    path, counts = folder / JOURNAL_FILE, folder / COUNTS_FILE
    if path.is_file() and counts.is_file():
        return path, decode(counts.read_bytes(), Derived)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / EVENTS_FILE).unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(folder / EVENTS_FILE)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.executescript(TABLE)
        read_examples(model, reader, topic_ids, db, on_progress)
        journal = DerivedJournal(recorded, end, db)
        write_partition(path, journal, Record)
    (folder / EVENTS_FILE).unlink()
    write_atomically(counts, encode(journal.counts))
    return path, journal.counts


def read_examples(
    model: str,
    reader: KafkaConsumer,
    topic_ids: Mapping[str, str],
    db: sqlite3.Connection,
    on_progress: Callable[[int, int], None],
) -> None:
    """Read all events that a model may learn from, and write the example of each to a database."""
    partitions = partitions_of(reader, topics_of(model_spec(model)))
    ranges = {partition: (0, end_offset(reader, *partition)) for partition in partitions}
    done, total = 0, sum(end for _, end in ranges.values())
    for messages in read_ranges(reader, ranges):
        topic, partition = messages[0].topic, messages[0].partition
        for message, event in decoded(messages, Event, topic, partition):
            example = example_of(model, from_kafka(message), event, topic_ids[topic])
            if example is None:
                continue
            with contextlib.suppress(BadRecord):  # the journal has a dead letter in its place
                row = (f"{topic}/{partition}", message.offset, topic_ids[topic], message.timestamp)
                db.execute("INSERT INTO examples VALUES (?, ?, ?, ?, ?)", (*row, encode_message(example)))
        db.commit()
        done += len(messages)
        on_progress(done, total)
