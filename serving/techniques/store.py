"""The examples that name techniques, and the severities of CVEs, in an SQLite file that catches up with the topics.

    partitions of threat.* ──catch_up──> examples (latest of each key), severities, positions

The file is a cache: delete it, and it is made again.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from schemas.events import Entity, Event, Template
from schemas.severity import KnownSeverity
from schemas.taxonomy import SEVERITIES
from schemas.topics import ENTITIES, RELATIONSHIPS, REPORTS, TECHNIQUES, TEMPLATES
from serving.techniques.examples import Removed, TechniqueExample, technique_example
from transport.partition_log import PartitionLog, fingerprint, last_fingerprint
from transport.records import decoded
from transport.sqlite import open_cache

log = logging.getLogger(__name__)

EXAMPLES_FILE = "techniques.sqlite"
"""Its usual name in the state folder."""
TOPICS = (TECHNIQUES, RELATIONSHIPS, TEMPLATES, REPORTS, ENTITIES)
"""Topics whose events name techniques, or severities."""

_FORMAT = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS examples (key TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS positions (
    topic TEXT, partition INTEGER, next INTEGER, fingerprint TEXT, PRIMARY KEY (topic, partition)
);
CREATE TABLE IF NOT EXISTS severities (cve TEXT, event TEXT, severity TEXT, feed TEXT, PRIMARY KEY (cve, event));
CREATE INDEX IF NOT EXISTS severities_event ON severities (event);
"""
_NAMES = ("examples", "positions", "severities")


class ExampleStore:
    """The examples in one file. One thread at a time may use it.

    Args:
        path: Made if it is not there. One that is damaged, or of an older format, is made again. None: in memory.
    """

    def __init__(self, path: Path | None) -> None:
        if path is None:
            self._db = open_cache(":memory:", _TABLES, _NAMES, _FORMAT)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = open_cache(path, _TABLES, _NAMES, _FORMAT)
        except sqlite3.DatabaseError as error:
            log.warning("%s is made again: %s", path, error)
            for file in path.parent.glob(f"{path.name}*"):
                file.unlink()
            self._db = open_cache(path, _TABLES, _NAMES, _FORMAT)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def catch_up(self, logs: Iterable[PartitionLog]) -> int:
        """Read what the topics have and the file has not.

        Args:
            logs: The partitions of `TOPICS`.

        Returns:
            How many examples are new, changed or gone.

        Raises:
            RetryLater: Kafka does not answer.
            Corrupt: The beginning of a topic was deleted before it was read.
        """
        logs = list(logs)
        if any(self._is_another(each) for each in logs):
            log.warning("the examples belong to other topics: reading these from their beginning")
            with self._db:
                for name in _NAMES:
                    self._db.execute(f"DELETE FROM {name}")
        changed = 0
        for each in logs:
            for messages in each.read(self._position(each)[0], each.end()):
                with self._db:
                    events = (record for _, record in decoded(messages, Event, each.topic, each.partition))
                    changed += self._apply(events)
                    position = (each.topic, each.partition, messages[-1].offset + 1, fingerprint(messages[-1]))
                    self._db.execute("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)", position)
        return changed

    def add(self, events: Iterable[Event]) -> int:
        """Take in events that come from elsewhere than topics, such as a folder; see `catch_up`."""
        with self._db:
            return self._apply(events)

    def examples(self) -> list[TechniqueExample]:
        """The latest example of each key, in the order of the keys."""
        rows = self._db.execute("SELECT value FROM examples ORDER BY key")
        return [msgspec.json.decode(value, type=TechniqueExample) for (value,) in rows]

    def severities(self, cves: Sequence[str]) -> dict[str, KnownSeverity]:
        """The severities of CVEs that a feed gives, the highest of each CVE.

        Args:
            cves: In upper case.
        """
        found: dict[str, KnownSeverity] = {}
        for cve in cves:
            rows = self._db.execute("SELECT severity, feed FROM severities WHERE cve = ?", (cve,)).fetchall()
            if rows:
                severity, feed = max(rows, key=lambda row: (SEVERITIES.index(row[0]), row[1]))
                found[cve] = KnownSeverity(severity, feed)
        return found

    def _apply(self, events: Iterable[Event]) -> int:
        changed = 0
        for event in events:
            self._note_severities(event)
            found = technique_example(event)
            if isinstance(found, TechniqueExample):
                value = msgspec.json.encode(found)
                query = (
                    "INSERT INTO examples VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value "
                    "WHERE value <> excluded.value"
                )
                changed += self._db.execute(query, (found.key, value)).rowcount
            elif isinstance(found, Removed):
                changed += self._db.execute("DELETE FROM examples WHERE key = ?", (found.key,)).rowcount
        return changed

    def _note_severities(self, event: Event) -> None:
        if isinstance(event, Template):
            kind, cves = "template", event.cves
        elif isinstance(event, Entity) and event.kind == "vulnerability":
            kind, cves = "entity", (event.external_id or event.id,)
        else:
            return
        key = f"{kind}:{event.id}"
        self._db.execute("DELETE FROM severities WHERE event = ?", (key,))
        if event.status == "active" and event.severity in SEVERITIES:
            rows = [(cve.upper(), key, event.severity, event.feed) for cve in cves]
            self._db.executemany("INSERT OR REPLACE INTO severities VALUES (?, ?, ?, ?)", rows)

    def _position(self, each: PartitionLog) -> tuple[int, str]:
        query = "SELECT next, fingerprint FROM positions WHERE topic = ? AND partition = ?"
        return self._db.execute(query, (each.topic, each.partition)).fetchone() or (0, "")

    def _is_another(self, each: PartitionLog) -> bool:
        next_offset, known = self._position(each)
        return bool(next_offset) and last_fingerprint(each, next_offset) != known
