"""Quarantine: what a feed suddenly sends otherwise than usual is set aside until a person decides. Pure.

    example ──> suspicion(watch of its feed) ──> no   ──> Example
                                             └─> rule ──> Held ──> a person ──> released: Example, or purged

A rule judges a fetch by its totals, which each of its events has, so the first event of a fetch is judged by the
whole and nothing of it gets through. Events without totals are counted as they come.

    rule               trips if
    burst              the fetch has many times the usual number of events: the median of the feed's latest fetches
    relabelled         many known entities have other labels, and the feed had used these labels before
    near-duplicates    many events of the fetch say nearly the same
    losses             the champion does far worse on what the feed says than on what the others say
    following          the feed is in quarantine already: its later events wait too, so that they stay in order

There is a watch for each feed of each source partition. A watch depends only on the order of the events in its
partition, on verdicts and on scores: so any worker that has the partition and a replay of the log decide the same.
`apply` makes the watches again from the records of a journal; the fold does it, and so does the journal role.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from schemas.fetch_totals import FetchTotals
from schemas.journal import (
    Example,
    Held,
    HoldReason,
    QuarantineRecord,
    QuarantineSettled,
    QuarantineVerdict,
    Record,
    Score,
    SeenOffsets,
    is_redelivery,
    source_partition,
)
from schemas.policy import QuarantineRules
from streams.core.feed_losses import FeedLosses

HISTORY = 20
"""Fetches of a feed of which the sizes are kept."""
MAX_FEEDS = 64
"""Feeds of a source partition that have a watch of their own; all others share one."""
MAX_VERDICTS = 64
"""Verdicts that are not carried out yet; with more, the oldest is forgotten, and a person has to give it again."""
OTHERS = "other feeds"
"""The name of the watch that feeds beyond `MAX_FEEDS` share."""
HOUR_MS = 3_600_000

_NO_TOTALS = FetchTotals(0)


class Suspicion(msgspec.Struct, frozen=True):
    """Why an event is set aside: the rule, what it measured, and its limit."""

    reason: HoldReason
    value: float = 0.0
    limit: float = 0.0


class Hold(msgspec.Struct, kw_only=True):
    """What is set aside of a feed.

    Attributes:
        why: The rule that began it.
        start: No record of it has a lower journal offset.
        waiting: Examples that wait for a verdict.
        since_ms: When the feed was read that began it.
        announced, count: Of that fetch; see `Watch`.
    """

    why: Suspicion
    start: int
    waiting: int = 0
    since_ms: int = 0
    announced: int = 0
    count: int = 0


class Watch(msgspec.Struct, kw_only=True):
    """What is known of one feed in one source partition.

    Attributes:
        fetch: The fetch of the latest event: the time at which it read the feed; 0: none yet.
        announced: Events of this fetch by its totals; 0: it has none.
        count: Events of it that came in this partition.
        sizes: `announced` of the fetches before it, latest last.
        counts: `count` of those that had no totals. The two are not compared: the totals are of all partitions.
        released: A person has released this fetch: the rest of it is not judged again.
        hold: What is set aside; None: nothing.
        settled: Journal offset of the latest verdict that was carried out; -1: none.
    """

    fetch: int = 0
    announced: int = 0
    count: int = 0
    sizes: list[int] = []
    counts: list[int] = []
    released: bool = False
    hold: Hold | None = None
    settled: int = -1


class Quarantine(msgspec.Struct, kw_only=True):
    """The quarantine of one model.

    Attributes:
        watches: Source partition -> feed -> watch.
        verdicts: (journal offset, verdict) of those that are not carried out everywhere.
        released, purged: Examples so far, of all feeds.
        losses: How the champion does on what each feed says.
    """

    watches: dict[str, dict[str, Watch]] = {}
    verdicts: list[tuple[int, QuarantineVerdict]] = []
    released: int = 0
    purged: int = 0
    losses: FeedLosses = msgspec.field(default_factory=FeedLosses)

    def watch(self, example: Example) -> Watch:
        """The watch of an example's feed in its source partition; it is made if there is none."""
        source = example.source
        feeds = self.watches.setdefault(source.topic_partition, {})
        return feeds.get(source.feed) or feeds.setdefault(_watched(feeds, source.feed), Watch())

    def is_about(self, example: Example, feed: str) -> bool:
        """Whether a verdict on a feed means an example."""
        source = example.source
        return feed == _watched(self.watches.get(source.topic_partition, {}), source.feed)

    @property
    def is_open(self) -> bool:
        """Whether anything is set aside."""
        return any(watch.hold for feeds in self.watches.values() for watch in feeds.values())

    def waiting(self) -> dict[tuple[str, HoldReason], int]:
        """(feed, rule that began it) -> examples that wait."""
        found: dict[tuple[str, HoldReason], int] = {}
        for _, feed, hold in self.holds():
            at = (feed, hold.why.reason)
            found[at] = found.get(at, 0) + hold.waiting
        return found

    def holds(self) -> list[tuple[str, str, Hold]]:
        """(source partition, feed, hold) of all that is set aside, sorted."""
        found = ((name, feed, w.hold) for name, feeds in self.watches.items() for feed, w in feeds.items())
        return sorted(((name, feed, hold) for name, feed, hold in found if hold), key=lambda each: each[:2])


def suspicion(watch: Watch, example: Example, rules: QuarantineRules) -> Suspicion | None:
    """Why the next example of a feed must be set aside; None: it need not be.

    Args:
        watch: Of its feed, before `observe`; it is not changed.
        example: The example.
        rules: Of the policy.
    """
    if watch.hold:
        return Suspicion("following")
    is_new = fetch_of(example) != watch.fetch
    if watch.released and not is_new:
        return None
    totals = example.source.fetch or _NO_TOTALS
    earlier = watch.sizes if totals.events else watch.counts
    if is_new and watch.fetch and bool(totals.events) == bool(watch.announced):
        earlier = _extended(earlier, watch.announced or watch.count)
    count = 1 if is_new else watch.count + 1
    return (
        _burst(max(totals.events, count), earlier, rules)
        or _relabelled(totals, rules)
        or _near_duplicates(totals, rules)
    )


def _burst(events: int, sizes: list[int], rules: QuarantineRules) -> Suspicion | None:
    if events < rules.burst_events or not rules.burst_factor or len(sizes) < rules.burst_fetches:
        return None
    usual = sorted(sizes)[len(sizes) // 2]
    limit = max(rules.burst_factor * usual, float(rules.burst_events))
    return Suspicion("burst", float(events), limit) if events >= limit else None


def _relabelled(totals: FetchTotals, rules: QuarantineRules) -> Suspicion | None:
    if not rules.relabelled_share or not totals.known:
        return None
    limit = max(rules.relabelled_share * totals.known, float(rules.relabelled_events))
    return Suspicion("relabelled", float(totals.relabelled), limit) if totals.relabelled >= limit else None


def _near_duplicates(totals: FetchTotals, rules: QuarantineRules) -> Suspicion | None:
    if not rules.alike_share or not totals.known:
        return None
    limit = max(rules.alike_share * totals.events, float(rules.alike_events))
    return Suspicion("near-duplicates", float(totals.alike), limit) if totals.alike >= limit else None


def _losses(losses: FeedLosses, example: Example, rules: QuarantineRules) -> Suspicion | None:
    """The scores are of earlier events, so what comes next is set aside. A first fetch has to be learnt first."""
    source = example.source
    if not rules.loss_excess or source.fetch is None or not source.fetch.known:
        return None
    excess = losses.excess(source.feed, rules.loss_events)
    return Suspicion("losses", excess, rules.loss_excess) if excess >= rules.loss_excess else None


def judged(quarantine: Quarantine, example: Example, rules: QuarantineRules, end: int) -> Example | Held:
    """The journal record of an example, which is also noted.

    Args:
        quarantine: Is changed as `apply` will when it reads the record.
        example: It comes from an event, not out of the quarantine.
        rules: Of the policy.
        end: No record after this one has a lower journal offset.
    """
    watch = quarantine.watch(example)
    why = suspicion(watch, example, rules) or _losses(quarantine.losses, example, rules)
    _observe(watch, example)
    if why is None:
        return example
    _hold(watch, example, why, end)
    return Held(example=example, reason=why.reason, value=why.value, limit=why.limit)


def apply(
    quarantine: Quarantine, seen: dict[str, SeenOffsets], offset: int, record: Example | Score | QuarantineRecord
) -> bool:
    """Note one record of a journal.

    Args:
        quarantine: Of its model; is changed.
        seen: Source partition -> the events of the records so far; is changed.
        offset: Journal offset of the record.
        record: The record.

    Returns:
        Whether it counts: False for one that repeats another.
    """
    if isinstance(record, Example):
        return _came(quarantine, seen, offset, record)
    if isinstance(record, QuarantineVerdict):
        quarantine.verdicts = [*quarantine.verdicts, (offset, record)][-MAX_VERDICTS:]
        _forget_settled(quarantine)
        return True
    if isinstance(record, QuarantineSettled):
        return _settle(quarantine, record)
    if isinstance(record, Score):
        quarantine.losses.take(record)
        return True
    example = record.example
    if is_redelivery(example.source, seen.setdefault(source_partition(example.source), {})):
        return False
    watch = quarantine.watch(example)
    if example.source.held < 0:
        _observe(watch, example)
    _hold(watch, example, Suspicion(record.reason, record.value, record.limit), offset)
    return True


def _came(quarantine: Quarantine, seen: dict[str, SeenOffsets], offset: int, example: Example) -> bool:
    """Note an example. It is nearly every record of a journal, so this is written for speed."""
    source = example.source
    name = source_partition(source)
    known = seen.get(name)
    if known is None:
        known = seen[name] = {}
    if is_redelivery(source, known):
        return False
    losses = quarantine.losses
    if not losses.names or losses.names[-1] != source.feed:
        losses.came(offset, source.feed)
    if source.held >= 0:
        return True  # it was observed when it was held
    feeds = quarantine.watches.get(name)
    watch = feeds.get(source.feed) if feeds else None
    if watch is None:
        watch = quarantine.watch(example)
    _observe(watch, example)
    return True


def fetch_of(example: Example) -> int:
    """What tells one fetch of a feed from the next: when it read the feed; without that, the hour of the event."""
    return example.observed_ms or max(example.source.timestamp_ms // HOUR_MS, 1)


def _watched(feeds: Mapping[str, Watch], feed: str) -> str:
    """The name of the watch of a feed."""
    return feed if feed in feeds or len(feeds) < MAX_FEEDS else OTHERS


def _observe(watch: Watch, example: Example) -> None:
    fetch, totals = fetch_of(example), example.source.fetch
    if fetch != watch.fetch:
        if watch.fetch and not watch.hold:
            _remember(watch, watch.announced, watch.count)
        watch.fetch, watch.announced, watch.count, watch.released = fetch, 0, 0, False
    watch.count += 1
    if totals is not None and totals.events > watch.announced:
        watch.announced = totals.events


def _remember(watch: Watch, announced: int, count: int) -> None:
    """Add a fetch to what is usual."""
    if announced:
        watch.sizes = _extended(watch.sizes, announced)
    else:
        watch.counts = _extended(watch.counts, count)


def _extended(sizes: list[int], size: int) -> list[int]:
    return [*sizes, size][-HISTORY:]


def _hold(watch: Watch, example: Example, why: Suspicion, start: int) -> None:
    if watch.hold is None:
        watch.hold = Hold(
            why=why, start=start, since_ms=example.observed_ms, announced=watch.announced, count=watch.count
        )
    watch.hold.waiting += 1


def _settle(quarantine: Quarantine, record: QuarantineSettled) -> bool:
    """Take what a verdict was carried out for out of the hold; that was all of it if nothing was kept."""
    watch = quarantine.watches.get(f"{record.topic}/{record.partition}", {}).get(record.feed)
    if watch is None or watch.hold is None or record.verdict <= watch.settled:
        return False
    hold, watch.settled = watch.hold, record.verdict
    quarantine.released += record.released
    quarantine.purged += record.purged
    hold.waiting -= record.released + record.purged + record.kept
    hold.start = record.verdict
    if hold.waiting <= 0:
        watch.hold = None
        quarantine.losses.forget(record.feed)
        if record.released:  # what a person lets pass is usual from here on
            watch.released = True
            _remember(watch, hold.announced, hold.count)
        else:
            watch.fetch = 0  # the rest of the fetch is judged again
    _forget_settled(quarantine)
    return True


def _forget_settled(quarantine: Quarantine) -> None:
    quarantine.verdicts = [
        (offset, verdict) for offset, verdict in quarantine.verdicts if targets(quarantine, offset, verdict)
    ]


def targets(quarantine: Quarantine, offset: int, verdict: QuarantineVerdict) -> Mapping[str, Hold]:
    """Source partition -> hold, of those that a verdict is to be carried out for."""
    return {
        name: watch.hold
        for name, feeds in quarantine.watches.items()
        for feed, watch in feeds.items()
        if feed == verdict.feed and watch.hold and watch.hold.start < offset and watch.settled < offset
    }


def waiting_records(
    quarantine: Quarantine, feed: str, holds: Mapping[str, Hold], records: Iterable[tuple[int, Record]]
) -> Iterator[tuple[int, Held]]:
    """(journal offset, record) of what waits of a feed, in order; one that repeats another is passed over.

    Args:
        quarantine: Of the model.
        feed: The feed.
        holds: Source partition -> hold of the feed.
        records: (journal offset, record) of the journal, from the lowest start of the holds on.
    """
    seen: dict[str, SeenOffsets] = {}
    for offset, record in records:
        if not isinstance(record, Held) or not quarantine.is_about(record.example, feed):
            continue
        source = record.example.source
        hold = holds.get(source.topic_partition)
        if hold is None or offset < hold.start:
            continue
        if not is_redelivery(source, seen.setdefault(source_partition(source), {})):
            yield offset, record
