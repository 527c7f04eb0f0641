"""A local copy of one model's journal in SQLite: examples by offset, and which triggers were answered.

    retrain.journal.v1 ──catch_up: only what is new──> SQLite ──span, at──> examples
                                                          └──answered, trained_texts

So a retrain costs what is new, not what is old. The file is a cache: deleted, damaged, or of another journal,
it is built again from the topic. Second deliveries of an event are left out, by the rule of the fold: an
event at or below the highest offset already seen of its topic and partition.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

from schemas.codec import decode
from schemas.errors import BadRecord, Corrupt
from schemas.journal import (
    Example,
    Promoted,
    Record,
    Refused,
    Score,
    held_out,
    is_redelivery,
    source_partition,
)
from trainers.core.dataset import OffsetExample, text_hash
from transport.partition_log import Message, PartitionLog, fingerprint, last_fingerprint

log = logging.getLogger(__name__)

_TABLES = """
    CREATE TABLE IF NOT EXISTS position (one INTEGER PRIMARY KEY CHECK (one = 1), next INTEGER, fingerprint TEXT);
    CREATE TABLE IF NOT EXISTS examples (offset INTEGER PRIMARY KEY, value BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS seen (partition TEXT PRIMARY KEY, offset INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS texts (hash INTEGER PRIMARY KEY, first INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS answers (trigger_id TEXT, kind TEXT, PRIMARY KEY (trigger_id, kind)) WITHOUT ROWID;
"""
_NAMES = ("position", "examples", "seen", "texts", "answers")
_FORMAT = 2


class JournalCopy:
    """The copy.

    Args:
        path: The SQLite file; its folder is made.
        journal: The partition of the model.
    """

    def __init__(self, path: Path, journal: PartitionLog) -> None:
        self._journal = journal
        self._db = _open(path)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def catch_up(self) -> int:
        """Copy what the journal has and the store doesn't.

        Returns:
            How many records were new.

        Raises:
            RetryLater: The broker does not answer.
            Corrupt: The beginning of the journal was deleted, and the store doesn't have it.
        """
        before, known = self._position()
        end = self._journal.end()
        if before and last_fingerprint(self._journal, before) != known:
            log.warning("the local copy is of another journal; reading this one from its beginning")
            self._clear()
            before = 0
        for messages in self._journal.read(before, end):
            with self._db:
                self._take(messages)
        return end - before

    def span(self, start: int, end: int) -> list[OffsetExample]:
        """All examples with offsets in `[start, end)`, retractions included, in order."""
        rows = self._db.execute(
            "SELECT offset, value FROM examples WHERE offset >= ? AND offset < ? ORDER BY offset", (start, end)
        )
        return [(offset, decode(value, Example)) for offset, value in rows]

    def standing(self, end: int) -> list[OffsetExample]:
        """The latest example of every key with an offset below `end`, those not retracted, in order."""
        latest = {example.key: (offset, example) for offset, example in self.span(0, end)}
        return sorted(at for at in latest.values() if not at[1].retracted)

    def at(self, offsets: Iterable[int]) -> dict[int, Example]:
        """The examples at some offsets.

        Raises:
            Corrupt: There is no example at one of them.
        """
        found: dict[int, Example] = {}
        for offset in offsets:
            row = self._db.execute("SELECT value FROM examples WHERE offset = ?", (offset,)).fetchone()
            if row is None:
                raise Corrupt(
                    f"journal offset {offset} is named by a trigger but holds no example: this is not the journal "
                    "that the trigger was made from; point SX9_KAFKA_BOOTSTRAP at the one that is"
                )
            found[offset] = decode(row[0], Example)
        return found

    def trained_texts(self, examples: Iterable[Example], before: int) -> frozenset[int]:
        """Which texts (by `text_hash`) are also in a training-side example with an offset below `before`."""
        hashes = {text_hash(example.text) for example in examples if example.text}
        query = "SELECT 1 FROM texts WHERE hash = ? AND first < ?"
        return frozenset(h for h in hashes if self._db.execute(query, (h, before)).fetchone())

    def answered(self, trigger: str) -> bool:
        """Whether the journal has the answer to a trigger, promoted or refused."""
        return self._has(trigger, "answer")

    def scored(self, trigger: str) -> bool:
        """Whether the journal has the champion's score on a trigger's new examples."""
        return self._has(trigger, "score")

    def _has(self, trigger: str, kind: str) -> bool:
        query = "SELECT 1 FROM answers WHERE trigger_id = ? AND kind = ?"
        return self._db.execute(query, (trigger, kind)).fetchone() is not None

    def _position(self) -> tuple[int, str]:
        return self._db.execute("SELECT next, fingerprint FROM position").fetchone() or (0, "")

    def _clear(self) -> None:
        with self._db:
            for name in _NAMES:
                self._db.execute(f"DELETE FROM {name}")

    def _take(self, messages: Sequence[Message]) -> None:
        for message in messages:
            try:
                record = decode(message.value, Record)
            except BadRecord as error:
                log.warning("passing over journal offset %d: %s", message.offset, error)
                continue
            if isinstance(record, Example):
                self._take_example(message, record)
            elif isinstance(record, Score | Promoted | Refused):
                kind = "score" if isinstance(record, Score) else "answer"
                self._db.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (record.trigger, kind))
        position = (1, messages[-1].offset + 1, fingerprint(messages[-1]))
        self._db.execute("INSERT OR REPLACE INTO position VALUES (?, ?, ?)", position)

    def _take_example(self, message: Message, example: Example) -> None:
        source = example.source
        partition = source_partition(source)
        seen = self._db.execute("SELECT offset FROM seen WHERE partition = ?", (partition,)).fetchone()
        if is_redelivery(source, seen[0] if seen else None):
            return
        self._db.execute("INSERT OR REPLACE INTO seen VALUES (?, ?)", (partition, source.offset))
        self._db.execute("INSERT INTO examples VALUES (?, ?)", (message.offset, message.value))
        if example.text and not held_out(example):
            text = (text_hash(example.text), message.offset)
            self._db.execute("INSERT OR IGNORE INTO texts VALUES (?, ?)", text)


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        log.warning("%s is damaged (%s); reading the journal from its beginning", path, error)
        for left in path.parent.glob(f"{path.name}*"):
            left.unlink()
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    """A connection that one thread at a time uses, with tables of this format."""
    db = sqlite3.connect(path, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        if db.execute("PRAGMA user_version").fetchone()[0] not in (0, _FORMAT):
            for name in _NAMES:
                db.execute(f"DROP TABLE IF EXISTS {name}")
        db.executescript(_TABLES)
        db.execute(f"PRAGMA user_version = {_FORMAT}")
    except BaseException:
        db.close()
        raise
    return db
