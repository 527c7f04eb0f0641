"""Reads the local copy of the journal of one model; see `trainers.store.journal_copy`, which makes it."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from schemas.codec import decode
from schemas.errors import Corrupt, RetryLater
from schemas.journal import Example, LineageChange, key_hash
from trainers.core.dataset import OffsetExample, text_hash

DAMAGED = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT))
"""Primary result codes of SQLite for a file that is not what was written: a page, the header, a missing table."""


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

    @property
    def next_offset(self) -> int:
        """The first journal offset that is not copied yet."""
        with self._errors():
            return self._position()[0]

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

    def examples_with_keys(self, keys: Iterable[str], start: int, end: int) -> list[OffsetExample]:
        """The examples with some keys and offsets in `[start, end)`, in order, also those that are left out now."""
        table = "SELECT offset, value, digest FROM {} WHERE key = ?1 AND offset >= ?2 AND offset < ?3"
        query = " UNION ALL ".join(table.format(name) for name in ("examples", "left_out"))
        wanted, found = set(keys), list[OffsetExample]()
        with self._errors():
            for key in {key_hash(key) for key in wanted}:
                rows = self._db.execute(query, (key, start, end))
                found += [(offset, self.example(offset, *row)) for offset, *row in rows]
        return sorted((each for each in found if each[1].key in wanted), key=lambda each: each[0])

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

    def _position(self) -> tuple[int, str]:
        return self._db.execute("SELECT next, fingerprint FROM position").fetchone() or (0, "")

    def _has(self, trigger: str, kind: str) -> bool:
        query = "SELECT 1 FROM answers WHERE trigger_id = ? AND kind = ?"
        with self._errors():
            return self._db.execute(query, (trigger, kind)).fetchone() is not None

    def example(self, offset: int, value: bytes, digest: bytes) -> Example:
        """Decode an example of a row, after its bytes were verified."""
        if not isinstance(value, bytes) or digest_of(value) != digest:
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
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in DAMAGED:
                raise UnusableCopy(f"{self._path} is damaged ({error})") from error
            raise RetryLater(
                f"{self._path} can't be read or written now ({error}): free some space, or set SX9_STATE_DIR"
            ) from error


def digest_of(value: bytes) -> bytes:
    """8 bytes by which a changed value is seen."""
    return hashlib.blake2b(value, digest_size=8).digest()
