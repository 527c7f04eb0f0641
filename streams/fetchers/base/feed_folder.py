"""Feeds in a folder, without Kafka: the events of each feed as files, and what was read, for the next time.

    events/<feed>/<topic>.jsonl                     the events, by time and id
    events/<feed>/threat.dead-letters.v1.jsonl      what can't be used now, and why
    .fetch/state/<feed>.json                        the cursor of the feed
    .fetch/feeds/<feed>                             its git mirror

A run is that of `runner.py` with files in place of topics: read what changed, compare it with what is there, write
the events, then the cursor. One that dies in between writes the rest the next time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from schemas.codec import decode, encode
from schemas.dead_letters import rejection_digest
from schemas.encoding import EncodedEvent, decode_event
from schemas.errors import BadConfiguration, BadRecord
from schemas.events import MAX_PAYLOAD_BYTES, DeadLetter, Event, Technique
from schemas.topics import DEAD_LETTERS, TECHNIQUES, Topic, topic_of
from streams.fetchers.base.cursor import LastCounts, load_cursor, save_cursor
from streams.fetchers.base.diff import Plan, plan_unchanged
from streams.fetchers.base.entries import Entries, Entry, Key, entry_of
from streams.fetchers.base.feed import FeedSpec, FeedState, OnProgress, no_progress
from streams.fetchers.base.labels import Techniques, known_technique
from streams.fetchers.base.publish import outgoing_dead_letter
from streams.fetchers.base.runner import (
    FetchReport,
    check_key,
    plan_batch,
    raise_source_error,
    read_batch,
    report_of,
    with_key,
)
from streams.fetchers.feeds.registry import feed_named
from streams.fetchers.sources.resource import ParsedResource, Resource
from streams.settings import Settings
from transport.files import write_atomically

log = logging.getLogger(__name__)

EVENTS, OWN = "events", ".fetch"
STATE = f"{OWN}/state"
MIRRORS = f"{OWN}/feeds"


def fetch_into_folder(
    feed: str,
    source: str | None,
    folder: Path,
    settings: Settings,
    raw_file: str = "",
    on_progress: OnProgress = no_progress,
) -> FetchReport:
    """Read what changed in a feed since the last time, and bring its events in a folder up to date.

    Args:
        feed: Name of the feed.
        source: A URL, a path or a package; None: the feed's default source.
        folder: The folder of threat content; created if missing. One process at a time may fetch into it.
        settings: Have the keys of feeds.
        raw_file: For a feed of one file: the name under which the file itself is kept in the folder, too.
        on_progress: Called with the stages `collect` and `parse`.

    Returns:
        The report; `published` are the events that were written.

    Raises:
        BadConfiguration: There is no such feed or source.
        BadRecord: The source as a whole can't be used.
        RetryLater: It can't be reached.
    """
    observed_ms, started_s = int(time.time() * 1000), time.monotonic()
    spec = _keeping(with_key(feed_named(feed), settings), folder / raw_file if raw_file else None)
    source = source or spec.default_source
    if not source:
        raise BadConfiguration(f"{feed} has no place of its own: give --source {feed}=PATH")
    check_key(spec, source, settings)
    stored, cursor_file = FeedFolder(folder, spec), folder / STATE / f"{feed}.json"
    cursor = load_cursor(cursor_file, spec, {})
    is_whole = stored.is_whole() and (not raw_file or (folder / raw_file).is_file())
    state = cursor.state_for(source) if is_whole else FeedState()
    batch = read_batch(spec, source, state, folder / OWN, on_progress, stored)
    plan = plan_batch(batch, spec, cursor.last_counts, stored, observed_ms, {})
    if batch.outcomes is not None:
        stored.write(plan, observed_ms)
    if batch.source_error is None:
        now = plan_unchanged(plan.counts, plan.rejected)  # so that a next run without changes writes the same
        save_cursor(cursor_file, spec, source, {}, batch.state, LastCounts(now.counts, now.rejected))
    raise_source_error(batch, source)
    return report_of(spec, source, batch, plan, time.monotonic() - started_s)


def _keeping(spec: FeedSpec, path: Path | None) -> FeedSpec:
    """A feed whose file is kept at a path when it is read and can be used."""
    if path is None:
        return spec
    collection = spec.collection
    if not isinstance(collection, Resource):
        raise TypeError(f"{spec.name} is not one file: there is nothing to keep at {path}")

    def parse(data: bytes, file_name: str, feed: str) -> ParsedResource:
        parsed = collection.parse(data, file_name, feed)
        write_atomically(path, data)
        return parsed

    return dataclasses.replace(spec, collection=dataclasses.replace(collection, parse=parse))


def dead_letters_in(folder: Path) -> Iterator[DeadLetter]:
    """What of all feeds in a folder of threat content can't be used now, in order of feed and origin."""
    for path in sorted((folder / EVENTS).glob(f"*/{DEAD_LETTERS.name}.jsonl")):
        yield from _dead_letters(path)


class FeedFolder:
    """The events of one feed in a folder; it is a `Published`.

    Args:
        folder: The folder of threat content.
        spec: The feed.
    """

    def __init__(self, folder: Path, spec: FeedSpec) -> None:
        self._folder = folder
        self._spec = spec

    def _path(self, topic: Topic, feed: str = "") -> Path:
        return self._folder / EVENTS / (feed or self._spec.name) / f"{topic.name}.jsonl"

    def is_whole(self) -> bool:
        """Whether all files of the feed are there."""
        return all(self._path(topic).is_file() for topic in self._spec.topics)

    def entries(self, feed: str) -> Entries:
        """See `Published`."""
        found: dict[str, dict[str, Entry]] = {}
        for topic in self._spec.topics:
            found[topic.name] = {each.event.id: entry_of(each) for each in _events(self._path(topic, feed))}
        return found

    def dead_letters(self, feed: str) -> dict[str, str]:
        """See `Published`. One whose bytes were not kept as a whole counts as another."""
        return {
            letter.origin: rejection_digest(letter.origin, letter.reason, letter.payload)
            for letter in _dead_letters(self._path(DEAD_LETTERS, feed))
            if letter.payload_bytes <= MAX_PAYLOAD_BYTES
        }

    def techniques(self) -> Techniques:
        """See `Published`."""
        return {
            each.event.id: known_technique(each.event)
            for path in sorted((self._folder / EVENTS).glob(f"*/{TECHNIQUES.name}.jsonl"))
            for each in _events(path)
            if isinstance(each.event, Technique)
        }

    def last_events(self, feed: str, keys: Sequence[Key]) -> dict[Key, Event]:
        """See `Published`."""
        if not keys:
            return {}
        found: dict[Key, Event] = {}
        for topic in {topic for topic, _ in keys}:
            wanted = {key for name, key in keys if name == topic}
            paths = sorted((self._folder / EVENTS).glob(f"*/{topic}.jsonl"))
            for path in sorted(paths, key=lambda path: path.parent.name != feed):  # another feed's replaces its own
                for event in (each.event for each in _events(path)):
                    is_there = event.status != "withdrawn" and not event.kept_by
                    if event.id in wanted and (event.feed == feed or is_there):
                        found[topic, event.id] = event
        return found

    def write(self, plan: Plan, observed_ms: int) -> None:
        """Write the events of a plan beside those that are there, and what can't be used now.

        Args:
            plan: Its events replace those with the same id.
            observed_ms: When the feed was read, ms since 1970 UTC.
        """
        changed = Counter(topic_of(encoded.event).name for encoded, _ in plan.events)
        for topic in self._spec.topics:
            path = self._path(topic)
            if changed[topic.name] or not path.is_file():
                ours = (encoded for encoded, _ in plan.events if topic_of(encoded.event) == topic)
                events = {each.event.id: each for each in (*_events(path), *ours)}
                _write(path, [each.value for each in sorted(events.values(), key=_by_time)])
        known = _dead_letters(self._path(DEAD_LETTERS))
        letters = {letter.origin: letter for letter in known if letter.origin in plan.unusable}
        for item in plan.dead_letters:
            message = outgoing_dead_letter(item, self._spec.name, observed_ms)
            letters[item.origin] = decode(message.value, DeadLetter)
        _write(self._path(DEAD_LETTERS), [encode(letter) for _, letter in sorted(letters.items())])


def _by_time(encoded: EncodedEvent) -> tuple[int, str]:
    return encoded.event.created_ms, encoded.event.id


def _events(path: Path) -> Iterator[EncodedEvent]:
    """The events in a file; what is none is logged and left out, so that it is written again."""
    for number, line in enumerate(_lines(path), 1):
        try:
            yield decode_event(line)
        except BadRecord as error:
            log.warning("%s:%d: %s: it is left out", path, number, error)


def _dead_letters(path: Path) -> Iterator[DeadLetter]:
    for line in _lines(path):
        with contextlib.suppress(BadRecord):  # it is written again
            yield decode(line, DeadLetter)


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, without their ends; none if it is missing."""
    if path.is_file():
        with path.open("rb") as file:
            yield from (line.rstrip(b"\n") for line in file)


def _write(path: Path, lines: Sequence[bytes]) -> None:
    data = b"".join(line + b"\n" for line in lines)
    if not path.is_file() or path.read_bytes() != data:
        write_atomically(path, data)
