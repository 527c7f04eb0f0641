"""What of a feed is on the topics: a fold over them, with a snapshot so that it reads only what came since.

    snapshot ──valid for these topics?──> entries, offsets ──read the tail──> entries ──> snapshot

An event is known to be published because it is on its topic, not because a file says so. The snapshot may be
lost, or be older than the topics by whatever a killed fetcher had published: reading makes up for both.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

import schemas.events
from schemas.codec import decode
from schemas.errors import BadConfiguration, BadRecord
from schemas.events import Event
from schemas.topics import DEAD_LETTERS
from streams.fetchers.base.diff import Entry, entry_of
from streams.fetchers.base.feed import FeedState, OnProgress
from transport import kafka as wire
from transport.files import write_atomically

log = logging.getLogger(__name__)


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """How far a topic was read: the topic's own id, and the offset after the last message of each partition."""

    topic_id: str
    offsets: tuple[int, ...]


class LastCounts(msgspec.Struct, frozen=True):
    """The counts of the last complete run, which still hold if the source did not change."""

    counts: dict[str, int]
    rejected: dict[str, int]


class Published(msgspec.Struct, kw_only=True):
    """The state of the fold, and with it what the feed wants to know again; this is the cursor file.

    Attributes:
        code: Digest of the code that made it; other code reads everything anew.
        feed: Name of the feed.
        marks: Topic -> how far it was read.
        entries: Topic -> id -> what was last published.
        letters: Origin -> digest of the last dead letter.
        memo: The feed's own.
        standing: None before the first complete run.
    """

    code: str
    feed: str
    marks: dict[str, Mark] = {}
    entries: dict[str, dict[str, Entry]] = {}
    letters: dict[str, str] = {}
    memo: FeedState = FeedState()
    standing: LastCounts | None = None


@functools.cache
def _code() -> str:
    """Digest of the code that makes events and entries."""
    files = [*sorted(Path(__file__).parent.glob("*.py")), Path(schemas.events.__file__)]
    return hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=8).hexdigest()


def nothing(feed: str) -> Published:
    """The state before anything was read."""
    return Published(code=_code(), feed=feed)


def load(path: Path, feed: str) -> Published:
    """The snapshot; `nothing` where there is none, or one that can't be read or that other code made."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Published)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return nothing(feed)
    return found if (found.code, found.feed) == (_code(), feed) else nothing(feed)


def save(published: Published, path: Path) -> None:
    """Write the snapshot; a process that dies in the middle leaves the old one."""
    write_atomically(path, msgspec.json.encode(published))


def caught_up(published: Published, bootstrap: str, topics: Sequence[str], on_progress: OnProgress) -> Published:
    """The state with everything that is on the topics now; a state made of other topics is dropped.

    Args:
        published: Not to be used afterwards.
        bootstrap: host:port of Kafka.
        topics: Names of the feed's topics and of the dead-letter topic.
        on_progress: Told of the stage `published`.

    Raises:
        BadConfiguration: One of the topics does not exist.
        RetryLater: The broker does not answer.
    """
    with contextlib.closing(wire.consumer(bootstrap)) as reader:
        marks = _marks(bootstrap, topics, reader)
        if not _covers(published, marks):
            log.warning("%s: the cursor is of other topics than those on %s: made anew", published.feed, bootstrap)
            published = nothing(published.feed)
        _catch_up(published, reader, marks, on_progress)
    return published


def _marks(bootstrap: str, topics: Sequence[str], reader: KafkaConsumer) -> dict[str, Mark]:
    """Id and end offsets of topics as they are now."""
    with wire.kafka_errors(f"looking up {', '.join(topics)}"):
        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        try:
            found = {each["name"]: each for each in admin.describe_topics(list(topics))}
        finally:
            admin.close()
        counts = {topic: len(found.get(topic, {}).get("partitions", ())) for topic in topics}
        if missing := [topic for topic, count in counts.items() if not count]:
            raise BadConfiguration(f"no topic {', '.join(missing)} on {bootstrap}: `sx9 up` makes the topics")
        ends = reader.end_offsets([TopicPartition(topic, n) for topic in topics for n in range(counts[topic])])
    return {topic: _mark(found[topic]["topic_id"], topic, counts[topic], ends) for topic in topics}


def _mark(topic_id: object, topic: str, partitions: int, ends: Mapping[TopicPartition, int]) -> Mark:
    return Mark(str(topic_id), tuple(int(ends[TopicPartition(topic, number)]) for number in range(partitions)))


def _covers(published: Published, marks: Mapping[str, Mark]) -> bool:
    """Whether the snapshot was made of these topics: the same ids, and no offset beyond their ends."""
    for topic, mark in published.marks.items():
        now = marks.get(topic)
        if now is None or now.topic_id != mark.topic_id or len(now.offsets) < len(mark.offsets):
            return False
        if any(read > end for read, end in zip(mark.offsets, now.offsets, strict=False)):
            return False
    return True


def _catch_up(
    published: Published, reader: KafkaConsumer, marks: Mapping[str, Mark], on_progress: OnProgress
) -> None:
    spans = _spans(published, reader, marks)
    total, done = sum(end - start for start, end in spans.values()), 0
    for messages in wire.read_ranges(reader, spans):
        for message in messages:
            fold(published, message)
        done += len(messages)
        on_progress("published", done, total)
    published.marks = dict(marks)


def _spans(
    published: Published, reader: KafkaConsumer, marks: Mapping[str, Mark]
) -> dict[tuple[str, int], tuple[int, int]]:
    """The offsets to read; what retention has deleted is published no more."""
    ends = {(topic, number): end for topic, mark in marks.items() for number, end in enumerate(mark.offsets)}
    with wire.kafka_errors("asking where the topics begin"):
        first = reader.beginning_offsets([TopicPartition(*place) for place in ends])
    spans = {}
    for (topic, number), end in ends.items():
        read = published.marks[topic].offsets if topic in published.marks else ()
        start = read[number] if number < len(read) else 0
        spans[topic, number] = (max(start, int(first[TopicPartition(topic, number)])), end)
    return spans


def fold(published: Published, message: Any) -> None:
    """Take one message in; those of other feeds are passed over."""
    headers = dict(message.headers)
    ours = headers.get("ce_source") == f"/feeds/{published.feed}".encode()
    if not ours or message.key is None or message.value is None:
        return
    key = message.key.decode()
    if message.topic == DEAD_LETTERS.name:
        published.letters[key] = headers.get("ce_id", b"").decode()
        return
    try:
        event = decode(message.value, Event)
    except BadRecord as error:
        log.warning("%s/%d/%d: %s", message.topic, message.partition, message.offset, error)
        return
    published.entries.setdefault(message.topic, {})[key] = entry_of(event)
