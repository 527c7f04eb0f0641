"""What a feed no longer has is withdrawn: pure.

absent entities, their last events ──> the same events with the status `withdrawn`, or kept by another feed

Only a full release or a commit can tell that something is gone, and only if it is not older than the one published
last. What is there but can't be used now stays as it was; a relationship does not stay without its ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from schemas.codec import encode
from schemas.encoding import EncodedEvent
from schemas.events import Entity, Event, Relationship, Report, Technique, Template
from streams.fetchers.base.diff import ABSENT, Plan
from streams.fetchers.base.entries import Key
from streams.fetchers.base.feed import Batch


def candidates(plan: Plan, batch: Batch) -> tuple[Key, ...]:
    """The entities that are withdrawn unless they are there and can't be used.

    Args:
        plan: Of the batch.
        batch: The batch; one without any event withdraws nothing.
    """
    if plan.is_older or not batch.has_events:
        return ()
    return plan.absent if batch.is_complete else tuple(key for key in plan.absent if key[1] in batch.gone)


def with_withdrawals(plan: Plan, last_events: Mapping[Key, Event], feed: str, release: str) -> Plan:
    """A plan that withdraws what the feed no longer has.

    Args:
        plan: Of the batch.
        last_events: (topic, id) -> the event of another feed that still has the entity, or else this feed's last.
        feed: Name of the feed.
        release: Of the batch.
    """
    withdrawn = [_withdrawn(event, feed, release) for event in _gone(plan, list(last_events.values()), feed)]
    number = len(withdrawn)
    return msgspec.structs.replace(
        plan,
        events=[*plan.events, *((EncodedEvent(event, encode(event)), "withdrawn") for event in withdrawn)],
        counts=plan.counts | {"withdrawn": number, ABSENT: plan.counts[ABSENT] - number},
    )


def _gone(plan: Plan, last_events: list[Event], feed: str) -> Iterator[Event]:
    """The events of what is really gone, relationships last."""
    unusable = {id(e) for e in last_events if not plan.unusable.isdisjoint(_origins(e, feed))}
    nodes = [e for e in last_events if not isinstance(e, Relationship) and id(e) not in unusable]
    yield from nodes
    gone = {node.id for node in nodes}
    for edge in (e for e in last_events if isinstance(e, Relationship)):
        is_cut = f"{feed}:{edge.id}" in plan.dangling and not gone.isdisjoint((edge.source.id, edge.target.id))
        if is_cut or id(edge) not in unusable:
            yield edge


def _origins(event: Event, feed: str) -> Iterator[str]:
    """The origins that an item has as a dead letter, if it can't be used."""
    yield f"{feed}:{event.id}"
    if isinstance(event, Technique):
        yield f"{feed}:{event.stix_id}"
    if isinstance(event, Template | Entity | Report) and event.path:
        yield f"{feed}:{event.path}"


def _withdrawn(last: Event, feed: str, release: str) -> Event:
    if last.feed != feed:
        return msgspec.structs.replace(last, feed=feed, kept_by=last.feed)
    return msgspec.structs.replace(last, status="withdrawn", release=release)
