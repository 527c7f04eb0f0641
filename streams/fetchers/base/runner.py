"""One run of a feed: read the source, publish what changed, save the cursor.

    1. take the time and the lock of the feed       4. compare with what is published
    2. catch up: read what is new on the topics     5. publish, every message acknowledged
    3. load the cursor, collect and parse           6. catch up with our own messages, save the cursor

A run that dies between any two of these steps loses nothing and publishes nothing twice: step 2 reads from the
topics what an earlier run has published, and step 6 comes after all acknowledgements of step 5.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from schemas.encoding import EncodedEvent
from schemas.errors import BadConfiguration, BadRecord, Sx9Error
from schemas.fetch_totals import FetchTotals
from schemas.topics import DEAD_LETTERS, TECHNIQUES, topic_of
from streams import telemetry
from streams.fetchers.base.clients import KafkaClients, clients_of
from streams.fetchers.base.cursor import LastCounts, load_cursor, save_cursor
from streams.fetchers.base.diff import PUBLISHED_KINDS, Plan, plan_changes, plan_unchanged
from streams.fetchers.base.feed import (
    Batch,
    FeedSpec,
    FeedState,
    LeftOut,
    OnProgress,
    RejectedItem,
    UnchangedFile,
    no_progress,
)
from streams.fetchers.base.feed_status import FeedStatus, after_failure, read_status, write_status
from streams.fetchers.base.fetch_totals import fetch_totals
from streams.fetchers.base.labels import in_current_words, set_aside, techniques_digest
from streams.fetchers.base.publish import (
    OutgoingMessage,
    message_limits,
    outgoing_dead_letter,
    outgoing_event,
    oversize,
    publish,
)
from streams.fetchers.base.published import Published
from streams.fetchers.base.published_index import open_index
from streams.fetchers.base.withdrawals import candidates, with_withdrawals
from streams.fetchers.feeds.registry import feed_named
from streams.fetchers.sources.http import without_credentials
from streams.settings import Settings
from transport.files import lock
from transport.secrets import without_secrets

log = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class FetchReport:
    """The result of one run.

    Attributes:
        feed, source, release: What was read.
        counts: Kind of change -> number of events. `new`, `edited`, `revoked`, `deprecated`, `relabelled` and
            `withdrawn` were published; `unchanged`; `touched`: only the time of change is later; `stale`: older
            than what was published; `absent`: published once, not in the source now, and not withdrawn, because the
            source is not a full release, is older, or has the item in a form that can't be used.
        rejected: Reason -> number of items that can't be used now, or are left out.
        published: Events acknowledged by the broker.
        dead_letters: Rejected items that are new in this run.
        by_topic: Topic -> number of published events.
        seconds: Duration of the whole run.
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


@dataclass(frozen=True)
class FetchFailure:
    """A feed that could not be fetched, and the message of the error."""

    feed: str
    error: str


def parse_events(
    feed: str, source: str | None, settings: Settings, *, on_progress: OnProgress | None = None
) -> Iterator[EncodedEvent | RejectedItem]:
    """All events of a source, in the order in which to publish them, and its rejected items; needs no Kafka.

    Args:
        feed: Name of the feed.
        source: A URL, a path or a package; None: the feed's default source.
        settings: Where mirrors are kept.
        on_progress: Called with the stages `collect` and `parse`.

    Raises:
        BadConfiguration: There is no such feed or source.
        BadRecord: The source as a whole can't be used.
        RetryLater: It can't be reached.
    """
    spec = with_key(feed_named(feed), settings)
    source = source or spec.default_source
    check_key(spec, source, settings)
    batch = spec.read(source, FeedState(), settings.cache_dir, on_progress or no_progress)
    raise_source_error(batch, source)
    for outcome in batch.outcomes or ():
        if not isinstance(outcome, LeftOut | UnchangedFile):
            yield outcome


def fetch(
    feed: str,
    source: str | None,
    settings: Settings,
    kafka: str | KafkaClients,
    *,
    on_progress: OnProgress | None = None,
) -> FetchReport:
    """Publish what changed in a feed since it was last published.

    Args:
        feed: Name of the feed.
        source: A URL, a path or a package; None: the feed's default source.
        settings: Where cursors and mirrors are kept.
        kafka: host:port of Kafka, or the clients of a pass.
        on_progress: Called with the stages `published`, `collect`, `parse`, `publish`.

    Raises:
        BadConfiguration: There is no such feed, source or topic.
        BadRecord: The source as a whole can't be used; it is in the dead-letter topic, the cursor does not move.
        RetryLater: The source or the broker does not answer, or another process is fetching this feed.
    """
    observed_ms, started_s = int(time.time() * 1000), time.monotonic()
    spec, report_to = with_key(feed_named(feed), settings), on_progress or no_progress
    source = source or spec.default_source
    cursor_file = settings.cursors_dir / f"{feed}.json"
    if not source:
        raise BadConfiguration(f"{feed} has no place of its own: give --source, or {feed}=PATH in SX9_FEEDS")
    check_key(spec, source, settings)
    also_read = (TECHNIQUES,) if spec.labels_by_technique else ()
    topics = [topic.name for topic in (*spec.topics, *also_read, DEAD_LETTERS)]
    feed_lock = lock(cursor_file.with_suffix(".lock"), f"fetching {feed}", timeout_s=LOCK_TIMEOUT_S)
    with feed_lock, clients_of(kafka) as clients, open_index(settings.cursors_dir, clients) as index:
        positions = index.catch_up(topics, report_to)
        cursor = load_cursor(cursor_file, spec, positions)
        batch = read_batch(spec, source, cursor.state_for(source), settings.cache_dir, report_to, index)
        limits = {} if batch.outcomes is None else message_limits(clients, topics)
        plan = plan_batch(batch, spec, cursor.last_counts, index, observed_ms, limits)
        totals = fetch_totals(plan.events, index.entries(feed)) if plan.events else None
        if messages := _messages(plan, feed, observed_ms, limits, totals):
            publish(clients, messages, report_to, limits)
            positions = index.catch_up(topics, report_to)
        if batch.source_error is None:
            last_counts = LastCounts(plan.counts, plan.rejected)
            state = FeedState() if plan.oversized else batch.state
            save_cursor(cursor_file, spec, source, positions, state, last_counts)
    _count_dead_letters(plan, feed)
    raise_source_error(batch, source)
    report = report_of(spec, source, batch, plan, time.monotonic() - started_s)
    _count(report)
    return report


def with_key(spec: FeedSpec, settings: Settings) -> FeedSpec:
    """A feed with its key, if the settings have one.

    Raises:
        BadConfiguration: It takes none.
    """
    key = settings.feed_key(spec.name)
    return spec.with_key(key) if key else spec


def check_key(spec: FeedSpec, source: str, settings: Settings) -> None:
    """Raise if a feed needs a key for its source and the settings have none.

    Raises:
        BadConfiguration: So it is; the message says where a key comes from.
    """
    if source == spec.default_source and (missing := missing_key(spec, settings)):
        raise BadConfiguration(missing)


def missing_key(spec: FeedSpec, settings: Settings) -> str:
    """What a person must do before a feed can be fetched from its own place; empty: nothing."""
    if not spec.key_from or settings.feed_key(spec.name):
        return ""
    return f"{spec.name} needs a key: get one from {spec.key_from}, and put {spec.name}=KEY into SX9_FEED_KEYS"


def try_fetch(
    feed: str,
    source: str | None,
    settings: Settings,
    kafka: str | KafkaClients,
    *,
    on_progress: OnProgress | None = None,
) -> FetchReport | FetchFailure:
    """As `fetch`, but whatever is raised is counted and becomes a result, so that a feed's fault stays its own.

    The result is also written to the feed's status file, see `feed_status.py`.
    """
    before = read_status(settings.feeds_dir, feed)
    try:
        report = fetch(feed, source, settings, kafka, on_progress=on_progress)
        write_status(settings.feeds_dir, _status(report))
        return report
    except Sx9Error as error:
        name, message = type(error).__name__, str(error)
    except Exception as error:  # a fault of ours: the next feed must not miss its turn for it
        log.exception("%s: not foreseen", feed)
        name = type(error).__name__
        message = f"{name}: {error!s:.500}; this is a fault of the fetcher: report it with the traceback in the log"
    telemetry.FETCH_FAILURES.labels(feed=feed, error=name).inc()
    with contextlib.suppress(OSError):  # a full disk, say, which was reported already
        write_status(settings.feeds_dir, after_failure(before, without_secrets(message)))
    return FetchFailure(feed, message)


def show_next(settings: Settings, feed: str, wait_s: float) -> None:
    """Write down when a feed is fetched next, for `sx9 status` and the gauge.

    Args:
        settings: Name the state folder.
        feed: Name of the feed.
        wait_s: From now, seconds.
    """
    next_s = time.time() + wait_s
    status = read_status(settings.feeds_dir, feed)
    write_status(settings.feeds_dir, msgspec.structs.replace(status, next_ms=int(next_s * 1000)))
    telemetry.FETCH_NEXT.labels(feed=feed).set(next_s)


def _status(report: FetchReport) -> FeedStatus:
    return FeedStatus(
        feed=report.feed,
        release=report.release,
        last_success_ms=int(time.time() * 1000),
        new=report.counts["new"],
        edited=report.published - report.counts["new"],
        rejected=sum(report.rejected.values()),
    )


def show_feeds(settings: Settings) -> None:
    """Set the gauges of the feeds of the settings to what the cursors of earlier processes say."""
    for feed in settings.feed_sources:
        telemetry.FETCH_INTERVAL.labels(feed=feed).set(settings.fetch_interval_s)
        with contextlib.suppress(FileNotFoundError):  # it was never fetched completely, and then it has no series
            fetched_s = (settings.cursors_dir / f"{feed}.json").stat().st_mtime
            telemetry.FETCHED_AT.labels(feed=feed).set(fetched_s)


def read_batch(
    spec: FeedSpec, source: str, state: FeedState, cache_dir: Path, on_progress: OnProgress, index: Published
) -> Batch:
    """Read a source; events that name techniques are told in the words of the techniques on the topic now."""
    if not spec.labels_by_technique:
        return spec.read(source, state, cache_dir, on_progress)
    techniques = index.techniques()
    digest = techniques_digest(techniques)
    state = state if state.techniques == digest else FeedState()
    batch = spec.read(source, state, cache_dir, on_progress)
    if batch.outcomes is None:
        known = msgspec.structs.replace(batch.state, techniques=digest, set_aside=state.set_aside)
        return dataclasses.replace(batch, state=known)
    outcomes = in_current_words(batch.outcomes, techniques, state.set_aside)
    known = msgspec.structs.replace(batch.state, techniques=digest, set_aside=set_aside(outcomes))
    return dataclasses.replace(batch, outcomes=outcomes, state=known)


def plan_batch(
    batch: Batch,
    spec: FeedSpec,
    last_counts: LastCounts | None,
    index: Published,
    observed_ms: int,
    limits: Mapping[str, int],
) -> Plan:
    """What of a batch to publish.

    Args:
        batch: What was read.
        spec: The feed.
        last_counts: Of the last complete run, if there was one.
        index: What is published.
        observed_ms: When the feed was read, ms since 1970 UTC.
        limits: Topic -> its `max.message.bytes`; others have no limit of their own.
    """
    if batch.outcomes is None:
        assert last_counts is not None, "a source can be unchanged only after a complete run"
        return plan_unchanged(last_counts.counts, last_counts.rejected)
    plan = plan_changes(
        batch.outcomes,
        spec.topics[0].name,
        index.entries(spec.name),
        index.dead_letters(spec.name),
        observed_ms,
        partial(oversize, limits=limits),
    )
    last_events = index.last_events(spec.name, candidates(plan, batch))
    return with_withdrawals(plan, last_events, spec.name, batch.release)


def _messages(
    plan: Plan, feed: str, observed_ms: int, limits: Mapping[str, int], totals: FetchTotals | None
) -> list[OutgoingMessage]:
    events = [outgoing_event(encoded, observed_ms, totals) for encoded, _ in plan.events]
    return events + [outgoing_dead_letter(item, feed, observed_ms, limits) for item in plan.dead_letters]


def raise_source_error(batch: Batch, source: str) -> None:
    """Raise if a source as a whole can't be used.

    Raises:
        BadRecord: So it is.
    """
    error = batch.source_error
    if error is not None:
        detail = f"{error.detail}; nothing of {without_credentials(source)} can be used"
        raise BadRecord(error.reason, detail)


def report_of(spec: FeedSpec, source: str, batch: Batch, plan: Plan, seconds: float) -> FetchReport:
    """The report of a run, from what was read and what was published."""
    by_topic = Counter(topic_of(encoded.event).name for encoded, _ in plan.events)
    return FetchReport(
        feed=spec.name,
        source=without_credentials(source),
        release=batch.release,
        counts=plan.counts,
        rejected=plan.rejected,
        published=len(plan.events),
        dead_letters=len(plan.dead_letters),
        by_topic=dict(by_topic),
        seconds=seconds,
    )


def _count_dead_letters(plan: Plan, feed: str) -> None:
    for item in plan.dead_letters:
        telemetry.EVENTS_REJECTED.labels(feed=feed, reason=item.error.reason).inc()


def _count(report: FetchReport) -> None:
    for kind in PUBLISHED_KINDS:
        telemetry.EVENTS_PUBLISHED.labels(feed=report.feed, kind=kind).inc(report.counts[kind])
    telemetry.FETCH_SECONDS.labels(feed=report.feed).observe(report.seconds)
    telemetry.FETCHED_AT.labels(feed=report.feed).set_to_current_time()
