"""What of a batch is new to the topics, and in which way: pure.

(batch, what was published) -> events and dead letters to publish, and how many there are of each kind
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from schemas.codec import encode
from schemas.errors import BadRecord
from schemas.events import Event, NodeRef, Relationship, Status
from schemas.topics import topic_of
from streams.fetchers.base import limits
from streams.fetchers.base.feed import Outcome, Rejected, Unchanged

Kind = Literal["new", "edited", "revoked", "deprecated", "relabelled", "unchanged", "touched", "stale"]

PUBLISHED_KINDS: tuple[Kind, ...] = ("new", "edited", "revoked", "deprecated", "relabelled")
ABSENT = "absent"
STANDING_KINDS: tuple[str, ...] = ("touched", "stale", ABSENT)
"""Kinds that a second reading of the same source counts again."""
COUNTED: tuple[str, ...] = (*PUBLISHED_KINDS, "unchanged", *STANDING_KINDS)
"""Every key of `Plan.counts`."""

_NOBODY = NodeRef(id="", kind="")


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What was last published under an id.

    Attributes:
        words: Hash of all it says but its release and its time of change.
        own_words: Of a relationship, the same without its ends.
        modified_ms: The feed's time of change.
        status: Whether the feed stood by it.
    """

    words: str
    own_words: str
    modified_ms: int
    status: Status


def entry_of(event: Event) -> Entry:
    """What to remember of an event."""
    bare = msgspec.structs.replace(event, release="", modified_ms=0)
    own = ""
    if isinstance(bare, Relationship):
        own = _hash(msgspec.structs.replace(bare, source=_NOBODY, target=_NOBODY), 8)
    return Entry(_hash(bare, 16), own, event.modified_ms, event.status)


def _hash(event: Event, size: int) -> str:
    return hashlib.blake2b(encode(event), digest_size=size).hexdigest()


Entries = Mapping[str, Mapping[str, Entry]]
"""Topic -> id -> what was last published."""


class Plan(msgspec.Struct, frozen=True):
    """What to publish.

    Attributes:
        events: With their kind, in the order of the batch.
        letters: Rejects that are not in the dead-letter topic yet.
        counts: Kind -> how many there are, `absent` (published once, not in the batch) included.
        rejected: Reason -> how many there are, whether in the dead-letter topic already or not.
    """

    events: list[tuple[Event, Kind]]
    letters: list[Rejected]
    counts: dict[str, int]
    rejected: dict[str, int]


def kind_of(now: Entry, known: Entry | None, *, batch_is_older: bool) -> Kind:
    """In which way an event differs from what was last published under its id.

    Args:
        now: Of the event in the batch.
        known: What was published; None: nothing.
        batch_is_older: The newest change in the batch is older than the newest that was published: an
            object whose own time of change says nothing is then older, too.

    Returns:
        `touched` where only the time of change is later; `stale` where publishing it would go back to an
        older revision; `relabelled` for a relationship that changed through one of its ends alone.
    """
    if known is None:
        return "new"
    if now.words == known.words:
        return "touched" if now.modified_ms > known.modified_ms else "unchanged"
    if now.modified_ms < known.modified_ms or (batch_is_older and now.modified_ms == known.modified_ms):
        return "stale"
    if now.status not in ("active", known.status):
        return "revoked" if now.status == "revoked" else "deprecated"
    return "relabelled" if now.own_words and now.own_words == known.own_words else "edited"


def plan(
    outcomes: Iterable[Outcome], topic: str, published: Entries, letters: Mapping[str, str], observed_ms: int
) -> Plan:
    """Compare a batch with what was published.

    Args:
        outcomes: Of one reading of the whole source.
        topic: Where the events of `Unchanged` files are.
        published: Of this feed.
        letters: Origin -> digest of the last dead letter of this feed.
        observed_ms: When the reading began; see `limits.FUTURE_MS`.
    """
    checked = [_checked(outcome, observed_ms) for outcome in outcomes]
    rejects = [o for o in checked if isinstance(o, Rejected)]
    skipped = [o for o in checked if isinstance(o, Unchanged)]
    judged = list(_judged([o for o in checked if not isinstance(o, Rejected | Unchanged)], published))
    present = {(topic_of(e).name, e.id) for e, _ in judged} | {(topic, o.id) for o in skipped if not o.reason}
    counts = Counter[str](kind for _, kind in judged)
    counts["unchanged"] += sum(not o.reason for o in skipped)
    counts[ABSENT] = sum((name, key) not in present for name, entries in published.items() for key in entries)
    reasons = Counter([r.error.reason for r in rejects] + [o.reason for o in skipped if o.reason])
    return Plan(
        events=[(event, kind) for event, kind in judged if kind in PUBLISHED_KINDS],
        letters=_unsent(rejects, letters),
        counts={kind: counts[kind] for kind in COUNTED},
        rejected=dict(sorted(reasons.items())),
    )


def _checked(outcome: Outcome, observed_ms: int) -> Outcome:
    if isinstance(outcome, Rejected | Unchanged) or outcome.modified_ms <= observed_ms + limits.FUTURE_MS:
        return outcome
    detail = f"modified_ms {outcome.modified_ms} is over a day after now, {observed_ms}"
    return Rejected(f"{outcome.feed}:{outcome.id}", BadRecord("future-time", detail), encode(outcome))


def _judged(events: list[Event], published: Entries) -> Iterable[tuple[Event, Kind]]:
    newest = max((event.modified_ms for event in events), default=0)
    newest_published = max((e.modified_ms for entries in published.values() for e in entries.values()), default=0)
    for event in events:
        known = published.get(topic_of(event).name, {}).get(event.id)
        yield event, kind_of(entry_of(event), known, batch_is_older=newest < newest_published)


def _unsent(rejects: Iterable[Rejected], letters: Mapping[str, str]) -> list[Rejected]:
    digests = dict(letters)
    unsent = []
    for reject in rejects:
        if digests.get(reject.origin) != reject.digest:
            unsent.append(reject)
            digests[reject.origin] = reject.digest
    return unsent
