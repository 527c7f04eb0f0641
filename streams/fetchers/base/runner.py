"""One run of a feed: read it, publish what changed, and remember it. The runner owns the cursor.

    1. now                     4. plan: what changed
    2. lock, load, catch up    5. publish, every message acknowledged
    3. collect and parse       6. catch up with our own messages, save the cursor

Dying between any two of them loses nothing and publishes nothing twice: 2 reads from the topics what an
earlier run has published, and 6 comes after all acknowledgements of 5.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from schemas.errors import BadConfiguration, BadRecord
from schemas.events import Event
from schemas.topics import DEAD_LETTERS, topic_of
from streams import telemetry as metrics
from streams.fetchers.base.cursor import LastCounts, Published, caught_up, load, save
from streams.fetchers.base.diff import PUBLISHED_KINDS, STANDING_KINDS, Plan, plan
from streams.fetchers.base.feed import Batch, Feed, FeedState, OnProgress, Rejected, Unchanged
from streams.fetchers.base.publish import Outgoing, outgoing_event, outgoing_letter, publish
from streams.fetchers.feeds import attack, nuclei
from streams.fetchers.sources.http import shown
from streams.settings import Settings
from transport.files import lock

FEEDS: dict[str, Feed] = {feed.name: feed for feed in (*attack.FEEDS, nuclei.FEED)}
"""The feeds by name."""

LOCK_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class FetchReport:
    """What one run did.

    Attributes:
        feed, source, release: What was read.
        counts: Kind of change -> how many (`new`, `edited`, `revoked`, `deprecated`, `relabelled`: published;
            `unchanged`; `touched`: a later date on the same words; `stale`: older than what was published;
            `absent`: published once, not there now).
        rejected: Reason -> how many are unusable now, `dead_letters` of them not known before.
        published: Events acknowledged by the broker; `by_topic` divides them.
        seconds: The whole run.
    """

    feed: str
    source: str
    release: str
    counts: dict[str, int]
    rejected: dict[str, int]
    published: int
    dead_letters: int
    by_topic: dict[str, int]
    seconds: float


def feed_named(name: str) -> Feed:
    """A feed.

    Raises:
        BadConfiguration: There is none of that name.
    """
    if name not in FEEDS:
        raise BadConfiguration(f"no feed {name!r}: there are {', '.join(FEEDS)}")
    return FEEDS[name]


def parse_events(
    feed: str, source: str | None, settings: Settings, *, on_progress: OnProgress | None = None
) -> Iterator[Event | Rejected]:
    """All events of a source, in the order to publish them, and what is unusable; needs no Kafka.

    Args:
        feed: Name of the feed.
        source: A URL, a path or a package; None: the feed's own.
        settings: Where mirrors are kept.

    Raises:
        BadConfiguration: There is no such feed or source.
        BadRecord: The source as a whole can't be used.
        RetryLater: It can't be reached.
    """
    chosen = feed_named(feed)
    place = source or chosen.default_source
    batch = chosen.read(place, FeedState(), settings.cache_dir, on_progress or _silent)
    if batch.refused:
        raise _named(batch.refused, place)
    for outcome in batch.outcomes or ():
        if not isinstance(outcome, Unchanged):
            yield outcome


def fetch(
    feed: str,
    source: str | None,
    settings: Settings,
    bootstrap: str,
    *,
    on_progress: OnProgress | None = None,
) -> FetchReport:
    """Publish what changed in a feed since it was last published.

    Args:
        feed: Name of the feed.
        source: A URL, a path or a package; None: the feed's own.
        settings: Where cursors and mirrors are kept.
        bootstrap: host:port of Kafka.
        on_progress: Called with the stages `published`, `collect`, `parse`, `publish`.

    Raises:
        BadConfiguration: There is no such feed, source or topic.
        BadRecord: The source as a whole can't be used; it is in the dead-letter topic, the cursor stays.
        RetryLater: The source or the broker does not answer, or another fetcher is at this feed.
    """
    observed_ms, started_s = int(time.time() * 1000), time.monotonic()
    chosen = feed_named(feed)
    place = source or chosen.default_source
    report_to = on_progress or _silent
    cursor = settings.cursors_dir / f"{feed}.json"
    held = lock(cursor.with_suffix(".lock"), f"fetching {feed}", timeout_s=LOCK_TIMEOUT_S)
    topics = [topic.name for topic in (*chosen.topics, DEAD_LETTERS)]
    with held:
        state = caught_up(load(cursor, feed), bootstrap, topics, report_to)
        batch = chosen.read(place, _memo_of(state, place), settings.cache_dir, report_to)
        todo = _plan(batch, chosen, state, observed_ms)
        if messages := _messages(todo, chosen, observed_ms):
            publish(bootstrap, messages, report_to)
            state = caught_up(state, bootstrap, topics, report_to)
        if batch.refused is None:
            state.standing = LastCounts(todo.counts, todo.rejected)
            state.memo = msgspec.structs.replace(batch.memo, source=shown(place))
        save(state, cursor)
    _count_letters(todo, feed)
    if batch.refused:
        raise _named(batch.refused, place)
    report = _report(chosen, place, batch, todo, time.monotonic() - started_s)
    _count(report)
    return report


def _named(error: BadRecord, source: str) -> BadRecord:
    return BadRecord(error.reason, f"{error.detail}; nothing of {shown(source)} can be used")


def _memo_of(state: Published, source: str) -> FeedState:
    """What was remembered of this source; nothing, if it was another one."""
    return state.memo if state.standing and state.memo.source == shown(source) else FeedState()


def _plan(batch: Batch, feed: Feed, state: Published, observed_ms: int) -> Plan:
    if batch.outcomes is not None:
        return plan(batch.outcomes, feed.topics[0].name, state.entries, state.letters, observed_ms)
    assert state.standing is not None, "only what was read whole can be unchanged"
    before = state.standing.counts
    still = {kind: before[kind] for kind in STANDING_KINDS}
    unchanged = sum(before.values()) - sum(still.values())
    counts = dict.fromkeys(before, 0) | still | {"unchanged": unchanged}
    return Plan(events=[], letters=[], counts=counts, rejected=state.standing.rejected)


def _messages(todo: Plan, feed: Feed, observed_ms: int) -> list[Outgoing]:
    events = [outgoing_event(event, observed_ms) for event, _ in todo.events]
    return events + [outgoing_letter(letter, feed.name, observed_ms) for letter in todo.letters]


def _report(feed: Feed, source: str, batch: Batch, todo: Plan, seconds: float) -> FetchReport:
    by_topic = Counter(topic_of(event).name for event, _ in todo.events)
    return FetchReport(
        feed=feed.name,
        source=shown(source),
        release=batch.release,
        counts=todo.counts,
        rejected=todo.rejected,
        published=len(todo.events),
        dead_letters=len(todo.letters),
        by_topic=dict(by_topic),
        seconds=seconds,
    )


def _count_letters(todo: Plan, feed: str) -> None:
    for letter in todo.letters:
        metrics.EVENTS_REJECTED.labels(feed=feed, reason=letter.error.reason).inc()


def _count(report: FetchReport) -> None:
    for kind in PUBLISHED_KINDS:
        metrics.EVENTS_PUBLISHED.labels(feed=report.feed, kind=kind).inc(report.counts[kind])
    metrics.FETCH_SECONDS.labels(feed=report.feed).observe(report.seconds)
    metrics.FETCHED_AT.labels(feed=report.feed).set_to_current_time()


def _silent(_stage: str, _done: int, _total: int | None) -> None:
    """Progress for nobody."""
