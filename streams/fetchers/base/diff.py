"""Which outcomes of a batch are new to the topics, and in which way they changed: pure.

(batch, what was published) -> events and dead letters to publish, and the number of each kind of change
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from schemas.encoding import EncodedEvent
from schemas.errors import BadRecord
from schemas.events import Event
from schemas.topics import topic_of
from streams.fetchers.base import limits
from streams.fetchers.base.entries import Entries, Entry, Key, entry_of
from streams.fetchers.base.feed import LeftOut, Outcome, RejectedItem, UnchangedFile, rejected_item

TooLarge = Callable[[EncodedEvent], BadRecord | None]
"""Why an event does not fit a message of its topic; None: it does."""

ChangeKind = Literal[
    "new", "edited", "revoked", "deprecated", "relabelled", "withdrawn", "unchanged", "touched", "stale"
]

PUBLISHED_KINDS: tuple[ChangeKind, ...] = ("new", "edited", "revoked", "deprecated", "relabelled", "withdrawn")
ABSENT = "absent"
MISSING_END = "missing-end"
"""Why a relationship is rejected that has an end which is not in the batch, or can't be used."""
RECURRING_KINDS: tuple[str, ...] = ("touched", "stale", ABSENT)
"""Kinds that another reading of the same source counts again."""
COUNTED_KINDS: tuple[str, ...] = (*PUBLISHED_KINDS, "unchanged", *RECURRING_KINDS)
"""Every key of `Plan.counts`."""


class Plan(msgspec.Struct, frozen=True):
    """What to publish.

    Attributes:
        events: The events with their kind of change, in the order of the batch.
        dead_letters: Rejected items that are not in the dead-letter topic yet, `limits.MAX_DEAD_LETTERS` at most.
        counts: Kind of change -> number of events; `absent` are those published once, not in the batch and not
            withdrawn.
        rejected: Reason -> number of items that are rejected or left out, those in the dead-letter topic included.
        oversized: Events that are rejected because they do not fit a message of their topic; when it takes larger
            ones, the next run publishes them.
        absent: The entities that are counted as absent.
        unusable: Origins of items that are there and can't be used.
        dangling: Those of relationships that can't be used because an end is missing.
        is_older: Whether the batch is of an older release than the one that was published last.
    """

    events: list[tuple[EncodedEvent, ChangeKind]]
    dead_letters: list[RejectedItem]
    counts: dict[str, int]
    rejected: dict[str, int]
    oversized: int = 0
    absent: tuple[Key, ...] = ()
    unusable: frozenset[str] = frozenset()
    dangling: frozenset[str] = frozenset()
    is_older: bool = False


def kind_of(now: Entry, known: Entry | None, *, batch_is_older: bool) -> ChangeKind:
    """In which way an event differs from what was last published under its id.

    Args:
        now: Of the event in the batch.
        known: What was last published; None: nothing.
        batch_is_older: Whether the batch is of an older release than the one published last. Then an object with an
            unchanged time of change is taken to be older, too.

    Returns:
        `touched` if only the time of change is later; `stale` if publishing would go back to an older revision;
        `relabelled` for a relationship that changed only through one of its nodes.
    """
    if known is None:
        return "new"
    if now.content == known.content:
        return "touched" if now.modified_ms > known.modified_ms else "unchanged"
    if now.modified_ms < known.modified_ms or (batch_is_older and now.modified_ms == known.modified_ms):
        return "stale"
    if now.status not in ("active", known.status):
        return "revoked" if now.status == "revoked" else "deprecated"
    return "relabelled" if now.own_content and now.own_content == known.own_content else "edited"


def plan_changes(
    outcomes: Iterable[Outcome],
    files_topic: str,
    published: Entries,
    dead_letters: Mapping[str, str],
    observed_ms: int,
    too_large: TooLarge = lambda _: None,
) -> Plan:
    """Compare a batch with what was published.

    Args:
        outcomes: Of one complete reading of the source.
        files_topic: Name of the topic with the events of unchanged files.
        published: The entries of this feed.
        dead_letters: Origin -> digest of the last dead letter of this feed.
        observed_ms: When the reading began, ms since 1970 UTC; see `limits.FUTURE_MS`.
        too_large: Tells which events do not fit a message of their topic.
    """
    checked = [_with_checked_time(outcome, observed_ms) for outcome in outcomes]
    rejected = [o for o in checked if isinstance(o, RejectedItem)]
    unchanged = [o for o in checked if isinstance(o, UnchangedFile)]
    events = [o for o in checked if isinstance(o, EncodedEvent)]
    is_older = _is_older([(encoded.event, _known(encoded, published)) for encoded in events], published)
    kinds = [
        (encoded, kind_of(entry_of(encoded), _known(encoded, published), batch_is_older=is_older))
        for encoded in events
    ]
    changes, oversized = _split(kinds, too_large)
    rejected += oversized
    present = {(topic_of(encoded.event).name, encoded.event.id) for encoded in events}
    present |= {(files_topic, file.id) for file in unchanged if not file.reason}
    absent = tuple(key for key in _not_withdrawn(published) if key not in present)
    counts = Counter[str](kind for _, kind in changes)
    counts["unchanged"] += sum(not file.reason for file in unchanged)
    counts[ABSENT] = len(absent)
    reasons = Counter(filter(None, map(_reason, (*checked, *oversized))))
    unusable = [item.origin for item in rejected] + [file.origin for file in unchanged if file.reason]
    return Plan(
        events=[(encoded, kind) for encoded, kind in changes if kind in PUBLISHED_KINDS],
        dead_letters=_new_dead_letters(rejected, dead_letters),
        counts={kind: counts[kind] for kind in COUNTED_KINDS},
        rejected=dict(sorted(reasons.items())),
        oversized=len(oversized),
        absent=absent,
        unusable=frozenset(unusable),
        dangling=frozenset(item.origin for item in rejected if item.error.reason == MISSING_END),
        is_older=is_older,
    )


def _split(
    changes: Iterable[tuple[EncodedEvent, ChangeKind]], too_large: TooLarge
) -> tuple[list[tuple[EncodedEvent, ChangeKind]], list[RejectedItem]]:
    """The changes without the events that would be published and don't fit, and these as rejected items."""
    kept, oversized = [], []
    for encoded, kind in changes:
        error = too_large(encoded) if kind in PUBLISHED_KINDS else None
        if error is None:
            kept.append((encoded, kind))
        else:
            oversized.append(rejected_item(f"{encoded.event.feed}:{encoded.event.id}", error, encoded.value))
    return kept, oversized


def _reason(outcome: Outcome) -> str:
    """Why an outcome is not used; empty: it is."""
    if isinstance(outcome, RejectedItem):
        return outcome.error.reason
    return outcome.reason if isinstance(outcome, LeftOut | UnchangedFile) else ""


def plan_unchanged(counts: Mapping[str, int], rejected: Mapping[str, int]) -> Plan:
    """The plan for a source that did not change since its last complete run.

    Args:
        counts: `Plan.counts` of that run.
        rejected: `Plan.rejected` of that run.
    """
    recurring = {kind: counts[kind] for kind in RECURRING_KINDS}
    unchanged = sum(counts.values()) - sum(recurring.values()) - counts["withdrawn"]
    now = dict.fromkeys(counts, 0) | recurring | {"unchanged": unchanged}
    return Plan(events=[], dead_letters=[], counts=now, rejected=dict(rejected))


def _with_checked_time(outcome: Outcome, observed_ms: int) -> Outcome:
    """The outcome itself, or a rejected item if it is dated in the future."""
    if not isinstance(outcome, EncodedEvent) or outcome.event.modified_ms <= observed_ms + limits.FUTURE_MS:
        return outcome
    event = outcome.event
    detail = f"modified_ms {event.modified_ms} is over a day after now, {observed_ms}"
    return rejected_item(f"{event.feed}:{event.id}", BadRecord("future-time", detail), outcome.value)


def _known(encoded: EncodedEvent, published: Entries) -> Entry | None:
    return published.get(topic_of(encoded.event).name, {}).get(encoded.event.id)


def _not_withdrawn(published: Entries) -> Iterator[Key]:
    for topic, entries in published.items():
        yield from ((topic, key) for key, entry in entries.items() if entry.status != "withdrawn")


def _is_older(events: Sequence[tuple[Event, Entry | None]], published: Entries) -> bool:
    """Whether a batch is older: it ends earlier than what was published, and has older versions of some of it.

    A batch that only ends earlier has lost what was modified last.
    """
    latest = max((event.modified_ms for event, _ in events), default=0)
    latest_published = max((e.modified_ms for entries in published.values() for e in entries.values()), default=0)
    if latest >= latest_published:
        return False
    return any(known is not None and event.modified_ms < known.modified_ms for event, known in events)


def _new_dead_letters(rejected: Sequence[RejectedItem], dead_letters: Mapping[str, str]) -> list[RejectedItem]:
    digests = dict(dead_letters)
    new = []
    for item in _with_limit(rejected):
        digest = item.digest
        if digests.get(item.origin) != digest:
            new.append(item)
            digests[item.origin] = digest
    return new


def _with_limit(rejected: Sequence[RejectedItem]) -> Iterator[RejectedItem]:
    """The first `limits.MAX_DEAD_LETTERS` items, and one that says how many more there are, and why."""
    yield from rejected[: limits.MAX_DEAD_LETTERS]
    if not (more := rejected[limits.MAX_DEAD_LETTERS :]):
        return
    reasons = Counter(item.error.reason for item in more)
    counts = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    detail = (
        f"{len(more)} more items were rejected ({counts}); a run writes {limits.MAX_DEAD_LETTERS} dead letters: "
        "repair the source of the first ones and fetch again, or check that it is the source that you mean"
    )
    feed = more[0].origin.partition(":")[0]
    yield rejected_item(f"{feed}:more", BadRecord("more-rejected", detail), counts.encode())
