"""A local copy of the journal of one model, in SQLite: examples by offset, and which triggers were answered.

    retrain.journal.v1 ──catch_up: new records only──> SQLite ──examples_between, examples_at──> examples
                                                          └──is_answered, trained_texts

With the copy, a retrain reads only the new records from Kafka. The file is a cache: if it is deleted, damaged or
belongs to another journal, it is rebuilt from the topic. Each example has a digest, so that a changed byte is seen
as well as a page that SQLite can't read. Redeliveries of an event are skipped, by the same rule as in the fold
(`schemas.journal.is_redelivery`). What a lineage change leaves out is set aside, and later examples like it too,
until a change takes it back; meanwhile only `examples_with_keys` finds it.

`JournalCopy` keeps the file up to date; only a trainer has one. `trainers.store.journal_reader` reads it, also in
another process while the copy is open.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from schemas.codec import decode
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
from trainers.core.dataset import text_hash
from trainers.store.journal_reader import DAMAGED, JournalReader, UnusableCopy, digest_of
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
    CREATE INDEX IF NOT EXISTS left_out_keys ON left_out (key, offset);
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


def no_progress(done: int, total: int) -> None:
    """Ignore the progress."""


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
            if error.sqlite_errorcode & 0xFF not in DAMAGED:
                raise
            self._remove(str(error))
            return open_cache(self._path, _TABLES, _TABLE_NAMES, _FORMAT, _PRAGMAS)

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
        row = (offset, key, until, message.value, digest_of(message.value or b""))
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
