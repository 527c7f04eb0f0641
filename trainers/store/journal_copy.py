"""A local copy of the journal of one model, in SQLite: examples by offset, and which triggers were answered.

    retrain.journal.v1 ──catch_up: new records only──> SQLite ──examples_between, examples_at──> examples
                                                          └──is_answered, trained_texts

With the copy, a retrain reads only the new records from Kafka. The file is a cache: if it is deleted, damaged or
belongs to another journal, it is rebuilt from the topic. Each example has a digest, so that a changed byte is seen
as well as a page that SQLite can't read. Redeliveries of an event are skipped, by the same rule as in the fold
(`schemas.journal.is_redelivery`). What a lineage change leaves out is set aside, and later examples like it too,
until a change takes it back; no reader finds it meanwhile.

`JournalCopy` keeps the file up to date; only a trainer has one. `JournalReader` reads it, also in another process
while the copy is open.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from schemas.codec import decode
from schemas.errors import Corrupt, RetryLater
from schemas.exclusions import is_excluded
from schemas.journal import (
    ChampionChange,
    Example,
    Held,
    LineageChange,
    PolicyChange,
    Promoted,
    Record,
    Refused,
    Score,
    SeenOffsets,
    held_out,
    is_redelivery,
    key_hash,
    source_partition,
)
from trainers import telemetry
from trainers.core.dataset import OffsetExample, text_hash
from transport.partition_log import PartitionLog, fingerprint, last_fingerprint
from transport.records import ConsumerRecord, decoded
from transport.sqlite import open_cache

log = logging.getLogger(__name__)

_TABLES = """
    CREATE TABLE IF NOT EXISTS position (one INTEGER PRIMARY KEY CHECK (one = 1), next INTEGER, fingerprint TEXT);
    CREATE TABLE IF NOT EXISTS examples (
        offset INTEGER PRIMARY KEY, key INTEGER NOT NULL, until INTEGER NOT NULL, value BLOB NOT NULL,
        digest BLOB NOT NULL
    );
    CREATE INDEX IF NOT EXISTS keys ON examples (key, offset);
    CREATE INDEX IF NOT EXISTS standing ON examples (until);
    CREATE TABLE IF NOT EXISTS groups (key INTEGER, offset INTEGER, PRIMARY KEY (key, offset)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS seen (partition TEXT PRIMARY KEY, offsets TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS texts (hash INTEGER PRIMARY KEY, first INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS answers (trigger_id TEXT, kind TEXT, PRIMARY KEY (trigger_id, kind)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS champions (offset INTEGER PRIMARY KEY, version TEXT, request TEXT);
    CREATE TABLE IF NOT EXISTS lineages (offset INTEGER PRIMARY KEY, value BLOB);
    CREATE TABLE IF NOT EXISTS left_out AS SELECT * FROM examples LIMIT 0;
    CREATE TABLE IF NOT EXISTS scores (
        version TEXT, reference INTEGER, last INTEGER, offset INTEGER, PRIMARY KEY (version, reference)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS policy (one INTEGER PRIMARY KEY CHECK (one = 1), score_every INTEGER);
"""
_TABLE_NAMES = (
    "position", "examples", "groups", "seen", "texts", "answers", "champions", "lineages", "left_out", "scores",
    "policy",
)  # fmt: skip
_FORMAT = 11
_PRAGMAS = ("journal_mode = WAL", "synchronous = NORMAL", "cache_size = -32000")
_FOR_EVER = 2**63 - 1
"""The column `until` of an example that nothing has superseded. Of others it is the journal offset of the example
that did, and of a retraction its own."""
_DAMAGED = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT))
"""Primary result codes of SQLite for a file that is not what was written: a page, the header, a missing table."""


def no_progress(done: int, total: int) -> None:
    """Ignore the progress."""


class Serving(NamedTuple):
    """A champion of a journal: its name, the request of the person who made it so, if one did, and the offset."""

    version: str
    request: str
    offset: int


class UnusableCopy(Corrupt):
    """The copy is damaged, or lacks examples that a trigger names. It can be made again from the topic."""


class JournalReader:
    """The examples and the answers in a copy. One thread at a time may use it.

    Args:
        path: The SQLite file of a `JournalCopy` that is open, or was closed.

    Raises:
        UnusableCopy: The file is missing or damaged. So does every method.
        RetryLater: SQLite can't read or write the file now: no room, no memory, locked. So does every method.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._errors():
            self._db = self._connect()

    def _connect(self) -> sqlite3.Connection:
        if not self._path.is_file():
            raise UnusableCopy(f"{self._path} is missing")
        return sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def examples_between(self, start: int, end: int) -> list[OffsetExample]:
        """The examples with offsets in `[start, end)`, including retractions, in order."""
        query = "SELECT offset, value, digest FROM examples WHERE offset >= ? AND offset < ? ORDER BY offset"
        with self._errors():
            rows = self._db.execute(query, (start, end))
            return [(offset, self.example(offset, value, digest)) for offset, value, digest in rows]

    def current_examples(self, end: int) -> list[OffsetExample]:
        """The latest example of each key with an offset below `end`, except retractions, in order.

        Neither examples that were superseded nor retractions are read, so the work grows with what stands alone.
        """
        query = (
            "SELECT offset, value, digest FROM examples INDEXED BY standing WHERE until >= ?1 AND offset < ?1 "
            "ORDER BY offset"
        )
        with self._errors():
            return [(offset, self.example(offset, *row)) for offset, *row in self._db.execute(query, (end,))]

    def latest_examples(self, keys: Iterable[str], start: int, end: int) -> dict[str, Example]:
        """Key -> its latest example with an offset in `[start, end)`, for the keys that have one there."""
        query = (
            "SELECT offset, value, digest FROM examples WHERE key = ? AND offset >= ? AND offset < ? "
            "ORDER BY offset DESC LIMIT 1"
        )
        found: dict[str, Example] = {}
        if start >= end:
            return found
        with self._errors():
            for key in keys:
                if row := self._db.execute(query, (key_hash(key), start, end)).fetchone():
                    found[key] = self.example(*row)
        return found

    def examples_at(self, offsets: Iterable[int]) -> dict[int, Example]:
        """The examples at the given offsets.

        Raises:
            UnusableCopy: There is no example at one of them.
        """
        found: dict[int, Example] = {}
        with self._errors():
            for offset in offsets:
                row = self._db.execute("SELECT value, digest FROM examples WHERE offset = ?", (offset,)).fetchone()
                if row is None:
                    raise UnusableCopy(
                        f"journal offset {offset} is named by a trigger but holds no example: this is not the "
                        "journal that the trigger was made from; point SX9_KAFKA_BOOTSTRAP at the one that is"
                    )
                found[offset] = self.example(offset, *row)
        return found

    def examples_of(self, name: str) -> list[OffsetExample]:
        """The examples with a key or a group, including retractions, in order."""
        query = (
            "SELECT offset, value, digest FROM examples WHERE key = ?1 OR offset IN "
            "(SELECT offset FROM groups WHERE key = ?1) ORDER BY offset"
        )
        with self._errors():
            rows = self._db.execute(query, (key_hash(name),))
            found = [(offset, self.example(offset, value, digest)) for offset, value, digest in rows]
        return [(offset, example) for offset, example in found if name in (example.key, example.group)]

    def trained_texts(self, examples: Iterable[Example], before: int) -> frozenset[int]:
        """The `text_hash` of each text that a training example with an offset below `before` has too."""
        hashes = {text_hash(example.text) for example in examples if example.text}
        query = "SELECT 1 FROM texts WHERE hash = ? AND first < ?"
        with self._errors():
            return frozenset(h for h in hashes if self._db.execute(query, (h, before)).fetchone())

    def is_answered(self, trigger: str) -> bool:
        """Whether the journal has the answer to a trigger, by its id: promoted or refused."""
        return self._has(trigger, "answer")

    def serving(self) -> Serving | None:
        """The latest champion of the journal; None before the first."""
        query = "SELECT version, request, offset FROM champions ORDER BY offset DESC LIMIT 1"
        with self._errors():
            row = self._db.execute(query).fetchone()
        return Serving(*row) if row else None

    def lineage(self) -> tuple[int, LineageChange] | None:
        """The latest lineage change and its journal offset; None if there is none."""
        return next(iter(self.lineages()[-1:]), None)

    def lineages(self) -> list[tuple[int, LineageChange]]:
        """All lineage changes with their journal offsets, in order."""
        with self._errors():
            rows = self._db.execute("SELECT offset, value FROM lineages ORDER BY offset").fetchall()
        return [(offset, decode(value, LineageChange)) for offset, value in rows]

    def is_scored(self, trigger: str) -> bool:
        """Whether the journal has the score of the champion on the new examples of a trigger, by its id."""
        return self._has(trigger, "score")

    def rows(self, query: str, parameters: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, read one by one."""
        with self._errors():
            yield from self._db.execute(query, parameters)

    def _has(self, trigger: str, kind: str) -> bool:
        query = "SELECT 1 FROM answers WHERE trigger_id = ? AND kind = ?"
        with self._errors():
            return self._db.execute(query, (trigger, kind)).fetchone() is not None

    def example(self, offset: int, value: bytes, digest: bytes) -> Example:
        """Decode an example of a row, after its bytes were verified."""
        if not isinstance(value, bytes) or _digest(value) != digest:
            raise UnusableCopy(
                f"{self._path}: the example at journal offset {offset} differs from what was written"
            )
        example: Example = decode(value, Example)
        return example

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Map errors of SQLite."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _DAMAGED:
                raise UnusableCopy(f"{self._path} is damaged ({error})") from error
            raise RetryLater(
                f"{self._path} can't be read or written now ({error}): free some space, or set SX9_STATE_DIR"
            ) from error


class JournalCopy(JournalReader):
    """The copy of a journal, which is brought up to date, and made again where it is damaged.

    Args:
        path: The SQLite file; missing folders are created.
        journal: The partition of the model in the journal topic.
    """

    def __init__(self, path: Path, journal: PartitionLog) -> None:
        self._journal = journal
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(path)

    def _connect(self) -> sqlite3.Connection:
        try:
            return open_cache(self._path, _TABLES, _TABLE_NAMES, _FORMAT, _PRAGMAS)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in _DAMAGED:
                raise
            self._remove(str(error))
            return open_cache(self._path, _TABLES, _TABLE_NAMES, _FORMAT, _PRAGMAS)

    @property
    def next_offset(self) -> int:
        """The first journal offset that is not copied yet."""
        with self._errors():
            return self._position()[0]

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return self._path

    def catch_up(self, on_progress: Callable[[int, int], None] = no_progress) -> int:
        """Copy the records that the journal has and the copy does not. A damaged copy is made again.

        Args:
            on_progress: Called with the next offset and the end offset.

        Returns:
            The number of new records.

        Raises:
            RetryLater: The broker does not answer.
            Corrupt: The beginning of the journal was deleted before it was copied.
        """
        try:
            return self._catch_up(on_progress)
        except UnusableCopy as error:
            return self.rebuild(str(error))

    def rebuild(self, why: str) -> int:
        """Delete the file, and copy the journal from its beginning; see `catch_up`.

        Args:
            why: What is wrong with the copy, for the log.
        """
        self._db.close()
        self._remove(why)
        with self._errors():
            self._db = open_cache(self._path, _TABLES, _TABLE_NAMES, _FORMAT, _PRAGMAS)
        return self._catch_up()

    def _has(self, trigger: str, kind: str) -> bool:
        try:
            return super()._has(trigger, kind)
        except UnusableCopy as error:
            self.rebuild(str(error))
            return super()._has(trigger, kind)

    def _catch_up(self, on_progress: Callable[[int, int], None] = no_progress) -> int:
        with self._errors():
            next_offset, known = self._position()
            end = self._journal.end()
            if next_offset and last_fingerprint(self._journal, next_offset) != known:
                log.warning("the local copy belongs to another journal; reading this one from its beginning")
                self._clear()
                next_offset = 0
            for messages in self._journal.read(next_offset, end):
                with self._db:
                    self._copy(messages)
                on_progress(messages[-1].offset + 1, end)
        return end - next_offset

    def _remove(self, why: str) -> None:
        log.warning("%s is made again from the journal: %s", self._path, why)
        telemetry.JOURNAL_COPIES_REBUILT.inc()
        for file in self._path.parent.glob(f"{self._path.name}*"):
            file.unlink()

    def _position(self) -> tuple[int, str]:
        return self._db.execute("SELECT next, fingerprint FROM position").fetchone() or (0, "")

    def _clear(self) -> None:
        with self._db:
            for name in _TABLE_NAMES:
                self._db.execute(f"DELETE FROM {name}")

    def _copy(self, messages: Sequence[ConsumerRecord]) -> None:
        left_out, seen = self._left_out(), self._seen()
        for message, record in decoded(messages, Record, self._journal.topic, self._journal.partition):
            if isinstance(record, Example):
                if not _is_redelivery(record, seen):
                    self._copy_example(message, record, bool(left_out) and is_excluded(record, left_out))
            elif isinstance(record, Held):
                _is_redelivery(record.example, seen)  # an example of the same event later would repeat it
            elif isinstance(record, ChampionChange):
                self._copy_champion(message.offset, record.version, record.request)
            elif isinstance(record, LineageChange):
                self._copy_lineage(message, record)
                left_out = self._left_out()
            elif isinstance(record, PolicyChange):
                self._db.execute("INSERT OR REPLACE INTO policy VALUES (1, ?)", (record.policy.score_every,))
            elif isinstance(record, Score) and record.each:
                row = (record.version, int(record.reference), record.each[-1].offset, message.offset)
                self._db.execute("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?)", row)
            elif isinstance(record, Score | Promoted | Refused):
                if isinstance(record, Promoted) and not self._has_answer(record.trigger):
                    self._copy_champion(message.offset, record.version, "")
                kind = "score" if isinstance(record, Score) else "answer"
                self._db.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (record.trigger, kind))
        rows = ((partition, json.dumps(offsets)) for partition, offsets in seen.items())
        self._db.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?)", rows)
        position = (1, messages[-1].offset + 1, fingerprint(messages[-1]))
        self._db.execute("INSERT OR REPLACE INTO position VALUES (?, ?, ?)", position)

    def _has_answer(self, trigger: str) -> bool:
        query = "SELECT 1 FROM answers WHERE trigger_id = ? AND kind = 'answer'"
        return self._db.execute(query, (trigger,)).fetchone() is not None

    def _copy_champion(self, offset: int, version: str, request: str) -> None:
        """Note who serves from an offset on; a request of a person that is delivered again changes nothing."""
        known = "SELECT 1 FROM champions WHERE request = ?"
        if not request or not self._db.execute(known, (request,)).fetchone():
            self._db.execute("INSERT OR IGNORE INTO champions VALUES (?, ?, ?)", (offset, version, request))

    def _left_out(self) -> tuple[str, ...]:
        """The exclusions of the latest lineage change."""
        lineage = self.lineage()
        return lineage[1].exclusions if lineage else ()

    def _copy_lineage(self, message: ConsumerRecord, change: LineageChange) -> None:
        """Note a lineage change, set aside what it leaves out, and take back what it does not leave out now."""
        if self._db.execute("SELECT 1 FROM champions WHERE request = ?", (change.request,)).fetchone():
            return
        self._copy_champion(message.offset, change.version, change.request)
        self._db.execute("INSERT INTO lineages VALUES (?, ?)", (message.offset, message.value))
        self._db.execute("INSERT INTO examples SELECT * FROM left_out")
        for table in ("texts", "groups", "left_out"):
            self._db.execute(f"DELETE FROM {table}")
        excluded = []
        for offset, value in self._db.execute("SELECT offset, value FROM examples ORDER BY offset"):
            example: Example = decode(value, Example)
            if is_excluded(example, change.exclusions):
                excluded.append((offset,))
            else:
                self._copy_names(offset, example)
        self._db.executemany("INSERT INTO left_out SELECT * FROM examples WHERE offset = ?", excluded)
        self._db.executemany("DELETE FROM examples WHERE offset = ?", excluded)
        later = "SELECT MIN(offset) FROM examples AS later WHERE key = examples.key AND offset > examples.offset"
        self._db.execute(f"UPDATE examples SET until = COALESCE(({later}), ?) WHERE until > offset", (_FOR_EVER,))

    def _copy_names(self, offset: int, example: Example) -> None:
        """Note the group of an example, and where a training text came first."""
        if example.group:
            self._db.execute("INSERT INTO groups VALUES (?, ?)", (key_hash(example.group), offset))
        if example.text and not held_out(example):
            self._db.execute("INSERT OR IGNORE INTO texts VALUES (?, ?)", (text_hash(example.text), offset))

    def _seen(self) -> dict[str, SeenOffsets]:
        """Topic partition -> the events that were seen; see `schemas.journal.source_partition`."""
        return {partition: json.loads(offsets) for partition, offsets in self._db.execute("SELECT * FROM seen")}

    def _copy_example(self, message: ConsumerRecord, example: Example, left_out: bool) -> None:
        key, offset = key_hash(example.key), message.offset
        until = offset if example.retracted else _FOR_EVER
        row = (offset, key, until, message.value, _digest(message.value or b""))
        if left_out:
            self._db.execute("INSERT INTO left_out VALUES (?, ?, ?, ?, ?)", row)
            return
        latest = "SELECT offset, until FROM examples WHERE key = ? ORDER BY offset DESC LIMIT 1"
        before = self._db.execute(latest, (key,)).fetchone()
        if before and before[1] == _FOR_EVER:
            self._db.execute("UPDATE examples SET until = ? WHERE offset = ?", (offset, before[0]))
        self._db.execute("INSERT INTO examples VALUES (?, ?, ?, ?, ?)", row)
        self._copy_names(offset, example)


def _is_redelivery(example: Example, seen: dict[str, SeenOffsets]) -> bool:
    """See `schemas.journal.is_redelivery`; the event is added to those that were seen."""
    return is_redelivery(example.source, seen.setdefault(source_partition(example.source), {}))


def _digest(value: bytes) -> bytes:
    """8 bytes by which a changed value is seen."""
    return hashlib.blake2b(value, digest_size=8).digest()
