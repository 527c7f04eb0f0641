"""What is on the topics, for all feeds: an index in one SQLite file, made by reading each topic once.

    topics ──read from the stored positions──> rows by feed, topic, id ──one transaction──> published.sqlite

An event is known to be published because it is on its topic, not because a file says so. The index may be lost, or
be behind the topics by whatever a killed fetcher had published: reading makes up for both. Each run of a feed reads
what is new on its topics, for all feeds. Rows and positions of a topic change in the same transaction.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaConsumer, TopicPartition

from schemas import cloudevents
from schemas.encoding import decode_event
from schemas.errors import BadRecord, RetryLater
from schemas.events import Event, Technique
from schemas.topics import DEAD_LETTERS, TECHNIQUES
from streams.fetchers.base.clients import KafkaClients
from streams.fetchers.base.code_digest import code_digest
from streams.fetchers.base.entries import Entries, Entry, Key, entry_of
from streams.fetchers.base.feed import OnProgress
from streams.fetchers.base.labels import KnownTechnique, Techniques
from streams.fetchers.base.positions import TopicPosition, end_positions, is_before
from transport import kafka as wire
from transport.files import lock

log = logging.getLogger(__name__)

INDEX_FILE = "published.sqlite"
_MODULES = (__name__, "streams.fetchers.base.entries", "schemas.encoding", "schemas.events")
"""The code that makes the rows; if it changes, the index is made anew."""
_BUSY_TIMEOUT_S = 60.0
_CACHE_KIB = 65_536
"""Enough for the whole index of some ten large feeds, so that a first run does not write pages twice."""
_OFFSET_BITS = 48
"""A `place` is the partition of an event, then its offset in that many bits."""
_TABLES = (
    "topics (topic TEXT PRIMARY KEY, topic_id TEXT NOT NULL, offsets BLOB NOT NULL)",
    "entries (feed TEXT, topic TEXT, id TEXT, content BLOB NOT NULL, own_content BLOB NOT NULL,"
    " modified_ms INTEGER NOT NULL, status TEXT NOT NULL, labels TEXT NOT NULL, place INTEGER NOT NULL,"
    " PRIMARY KEY (feed, topic, id))",
    "techniques (id TEXT PRIMARY KEY, tactics BLOB NOT NULL, revoked_by TEXT NOT NULL,"
    " domain TEXT NOT NULL, status TEXT NOT NULL)",
    "dead_letters (feed TEXT, origin TEXT, digest TEXT NOT NULL, PRIMARY KEY (feed, origin))",
)


Place = tuple[TopicPartition, int]
"""The partition of an event and its offset."""


class PublishedIndex:
    """The index, opened by `open_index`.

    Args:
        path: The SQLite file.
        connection: To this file, in autocommit mode, with the tables in place.
        clients: Of the Kafka with the topics.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, clients: KafkaClients) -> None:
        self._path = path
        self._connection = connection
        self._clients = clients

    def catch_up(self, topics: Sequence[str], on_progress: OnProgress) -> dict[str, TopicPosition]:
        """Read what is new on topics; rows of a topic that was deleted and created again are dropped first.

        Args:
            topics: Names of a feed's topics and of the dead-letter topic.
            on_progress: Called with the stage `published`.

        Returns:
            Topic -> how far the index has read it now.

        Raises:
            BadConfiguration: One of the topics does not exist.
            RetryLater: The broker does not answer, or another process keeps the index locked.
        """
        with _locked(self._path):
            ends = end_positions(self._clients, topics)
            known = self._positions(topics)
            if known != ends:
                with self._clients.reader() as reader, self._transaction():
                    self._read_new(reader, known, ends, on_progress)
            return ends

    def entries(self, feed: str) -> Entries:
        """What a feed has published."""
        found: dict[str, dict[str, Entry]] = {}
        query = "SELECT topic, id, content, own_content, modified_ms, status, labels FROM entries WHERE feed = ?"
        with _sqlite_errors(self._path):
            for topic, key, *fields in self._connection.execute(query, (feed,)):
                found.setdefault(topic, {})[key] = Entry(*fields)
        return found

    def dead_letters(self, feed: str) -> dict[str, str]:
        """Origin -> digest of a feed's last dead letter from there."""
        query = "SELECT origin, digest FROM dead_letters WHERE feed = ?"
        with _sqlite_errors(self._path):
            return dict(self._connection.execute(query, (feed,)).fetchall())

    def techniques(self) -> Techniques:
        """What was last published of every technique, by any feed."""
        query = "SELECT id, tactics, revoked_by, domain, status FROM techniques"
        with _sqlite_errors(self._path):
            rows = self._connection.execute(query).fetchall()
        return {
            key: KnownTechnique(msgspec.json.decode(tactics, type=tuple[str, ...]), *others)
            for key, tactics, *others in rows
        }

    def last_events(self, feed: str, keys: Sequence[Key]) -> dict[Key, Event]:
        """What remains of entities that a feed no longer has, read from the topics.

        Args:
            feed: Name of the feed.
            keys: (topic, id) of the entities; the feed has published all of them.

        Returns:
            Of each entity the last event of another feed that still has it, or else the feed's own last event.

        Raises:
            RetryLater: The broker does not answer.
        """
        if not keys:
            return {}
        places = dict(self._places(feed, keys))
        ranges: dict[TopicPartition, tuple[int, int]] = {}
        for partition, offset in places:
            start, end = ranges.get(partition, (offset, offset))
            ranges[partition] = min(start, offset), max(end, offset + 1)
        found: dict[Key, Event] = {}
        with self._clients.reader() as reader:
            for messages in wire.read_ranges(reader, _still_there(reader, ranges)):
                partition = TopicPartition(messages[0].topic, messages[0].partition)
                wanted = ((places[partition, m.offset], m) for m in messages if (partition, m.offset) in places)
                found.update((key, decode_event(message.value).event) for key, message in wanted)
        return found

    def _places(self, feed: str, keys: Sequence[Key]) -> Iterator[tuple[Place, Key]]:
        """Where the event of each entity is that `last_events` returns."""
        query = "SELECT place FROM entries WHERE feed = ? AND topic = ? AND id = ?"
        with _sqlite_errors(self._path):
            feeds = self._connection.execute("SELECT DISTINCT feed FROM entries").fetchall()
            for topic, name in keys:
                others = (
                    self._connection.execute(f"{query} AND status <> 'withdrawn'", (other, topic, name)).fetchone()
                    for (other,) in feeds
                    if other != feed
                )
                own = self._connection.execute(query, (feed, topic, name)).fetchone()
                place = max(filter(None, others), default=own)[0]
                partition, offset = place >> _OFFSET_BITS, place & (1 << _OFFSET_BITS) - 1
                yield (TopicPartition(topic, partition), offset), (topic, name)

    def _positions(self, topics: Sequence[str]) -> dict[str, TopicPosition]:
        with _sqlite_errors(self._path):
            rows = self._connection.execute("SELECT topic, topic_id, offsets FROM topics").fetchall()
        return {
            topic: TopicPosition(topic_id, msgspec.json.decode(offsets, type=tuple[int, ...]))
            for topic, topic_id, offsets in rows
            if topic in topics
        }

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with _sqlite_errors(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _read_new(
        self,
        reader: KafkaConsumer,
        known: dict[str, TopicPosition],
        ends: Mapping[str, TopicPosition],
        on_progress: OnProgress,
    ) -> None:
        for topic in [topic for topic, position in known.items() if not is_before(position, ends[topic])]:
            log.warning("the index of what is published is of another %s: it is read again", topic)
            self._drop(topic)
            del known[topic]
        ranges = _ranges(reader, known, ends)
        total, done = sum(end - start for start, end in ranges.values()), 0
        for messages in wire.read_ranges(reader, ranges):
            self._insert(messages)
            done += len(messages)
            on_progress("published", done, total)
        rows = [(topic, end.topic_id, msgspec.json.encode(end.offsets)) for topic, end in ends.items()]
        self._connection.executemany("INSERT OR REPLACE INTO topics VALUES (?, ?, ?)", rows)

    def _drop(self, topic: str) -> None:
        if topic == DEAD_LETTERS.name:
            self._connection.execute("DELETE FROM dead_letters")
        if topic == TECHNIQUES.name:
            self._connection.execute("DELETE FROM techniques")
        self._connection.execute("DELETE FROM entries WHERE topic = ?", (topic,))

    def _insert(self, messages: Sequence[Any]) -> None:
        """Insert the rows of messages of one partition; those not from a feed are skipped."""
        rows = filter(None, map(row_of, messages))
        if messages[0].topic == TECHNIQUES.name:
            techniques = filter(None, map(technique_of, messages))
            self._connection.executemany("INSERT OR REPLACE INTO techniques VALUES (?, ?, ?, ?, ?)", techniques)
        if messages[0].topic == DEAD_LETTERS.name:
            self._connection.executemany("INSERT OR REPLACE INTO dead_letters VALUES (?, ?, ?)", rows)
        else:
            self._connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


@contextlib.contextmanager
def open_index(folder: Path, clients: KafkaClients) -> Iterator[PublishedIndex]:
    """Open the index; one that is damaged or was made by other code is made anew.

    Args:
        folder: Where the file `INDEX_FILE` is, or will be.
        clients: Of the Kafka with the topics.

    Raises:
        RetryLater: Another process keeps the index locked.
    """
    path = folder / INDEX_FILE
    with _locked(path):
        connection = _connect(path)
    with contextlib.closing(connection):
        yield PublishedIndex(path, connection, clients)


def row_of(message: Any) -> tuple[Any, ...] | None:
    """The row of a message: of `dead_letters` or of `entries`; None for one that is not from a feed."""
    headers = dict(message.headers)
    feed = cloudevents.feed_of(headers.get(cloudevents.EVENT_SOURCE, b"").decode(errors="replace"))
    if not feed or message.key is None or message.value is None:
        return None
    key = message.key.decode(errors="replace")
    if message.topic == DEAD_LETTERS.name:
        return feed, key, headers.get(cloudevents.EVENT_ID, b"").decode(errors="replace")
    try:
        entry = entry_of(decode_event(message.value))
    except BadRecord as error:
        log.warning("%s/%d/%d: %s", message.topic, message.partition, message.offset, error)
        return None
    place = message.partition << _OFFSET_BITS | message.offset
    return feed, message.topic, key, *msgspec.structs.astuple(entry), place


def technique_of(message: Any) -> tuple[str, bytes, str, str, str] | None:
    """The row of `techniques` of a message; None for one that holds no technique."""
    try:
        event = decode_event(message.value).event
    except BadRecord:  # `row_of` says so
        return None
    if not isinstance(event, Technique):
        return None
    return event.id, msgspec.json.encode(event.tactics), event.revoked_by, event.domain, event.status


def _ranges(
    reader: KafkaConsumer, known: Mapping[str, TopicPosition], ends: Mapping[str, TopicPosition]
) -> dict[TopicPartition, tuple[int, int]]:
    """The offsets to read, for each partition; those that retention has deleted are skipped."""
    ranges = {}
    for topic, position in ends.items():
        read = known[topic].offsets if topic in known else ()
        for number, end in enumerate(position.offsets):
            start = read[number] if number < len(read) else 0
            if start < end:
                ranges[TopicPartition(topic, number)] = (start, end)
    return _still_there(reader, ranges)


def _still_there(
    reader: KafkaConsumer, ranges: Mapping[TopicPartition, tuple[int, int]]
) -> dict[TopicPartition, tuple[int, int]]:
    """Ranges of offsets without those that retention has deleted."""
    first = {partition: wire.first_offset(reader, *partition) for partition in ranges}
    return {partition: (max(start, first[partition]), end) for partition, (start, end) in ranges.items()}


def _locked(path: Path) -> contextlib.AbstractContextManager[None]:
    return lock(path.with_name(f"{path.name}.lock"), "reading what is published", timeout_s=_BUSY_TIMEOUT_S)


def _connect(path: Path) -> sqlite3.Connection:
    try:
        return _prepared(path)
    except sqlite3.OperationalError as error:
        raise RetryLater(f"{path}: {error}; try again") from error
    except sqlite3.DatabaseError as error:
        log.warning("%s is damaged (%s): it is made anew", path, error)
        _delete(path)
        return _prepared(path)


def _prepared(path: Path) -> sqlite3.Connection:
    """A connection with the tables of this code."""
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    try:
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        version = int(code_digest(_MODULES)[:7], 16)
        if connection.execute("PRAGMA user_version").fetchone()[0] != version:
            connection.execute("BEGIN IMMEDIATE")
            for table in _TABLES:
                connection.execute(f"DROP TABLE IF EXISTS {table.partition(' ')[0]}")
                connection.execute(f"CREATE TABLE {table} WITHOUT ROWID")
            connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _sqlite_errors(path: Path) -> Iterator[None]:
    """Maps what SQLite raises; a file that turns out to be damaged is deleted, and the next run makes it anew."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise RetryLater(f"{path}: {error}; try again") from error
    except sqlite3.DatabaseError as error:
        _delete(path)
        raise RetryLater(
            f"{path} was damaged ({error}) and has been deleted: try again, it is made anew"
        ) from error


def _delete(path: Path) -> None:
    for file in (path, path.with_name(f"{path.name}-journal")):
        file.unlink(missing_ok=True)
