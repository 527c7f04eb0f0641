"""The tactics of what names techniques only: taken from ATT&CK as it is published now. Pure.

    report, template, relationship ──with_tactics, techniques of the topic──> the same with the tactics of these

A report or an Atomic test says which technique it is about; which tactics that serves is ATT&CK's to say, and
changes with its releases. So when the techniques of the topic change, the feeds that depend on them are read anew,
and what has other tactics now is published again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from schemas.encoding import EncodedEvent, encode_event
from schemas.events import Event, NodeRef, Relationship, Report, ReportSpan, Template
from streams.fetchers.base.feed import Outcome

_MAX_SUCCESSORS = 10


class KnownTechnique(msgspec.Struct, frozen=True):
    """What was last published of a technique: its tactics, and the id that replaced it."""

    tactics: tuple[str, ...] = ()
    revoked_by: str = ""


Techniques = Mapping[str, KnownTechnique]
"""Id of a technique -> what is known of it."""


def techniques_digest(techniques: Techniques) -> str:
    """16 hex digits that change with any tactic or replacement."""
    state = hashlib.blake2b(digest_size=8)
    for key, known in sorted(techniques.items()):
        state.update(f"{key} {known.revoked_by} {' '.join(known.tactics)}\n".encode())
    return state.hexdigest()


def tactics_of(technique: str, techniques: Techniques) -> tuple[str, ...]:
    """The tactics of a technique, or of what replaced it; none if it is not known.

    >>> known = {"T1": KnownTechnique((), "T2"), "T2": KnownTechnique(("impact",))}
    >>> tactics_of("T1", known), tactics_of("T9", known)
    (('impact',), ())
    """
    for _ in range(_MAX_SUCCESSORS):
        known = techniques.get(technique, KnownTechnique())
        if not known.revoked_by:
            return known.tactics
        technique = known.revoked_by
    return ()


def with_tactics(outcomes: Sequence[Outcome], techniques: Techniques) -> list[Outcome]:
    """The outcomes of a feed whose events name techniques only, with the tactics of these."""
    return [
        encode_event(_labelled(outcome.event, techniques)) if isinstance(outcome, EncodedEvent) else outcome
        for outcome in outcomes
    ]


def _labelled(event: Event, techniques: Techniques) -> Event:
    if isinstance(event, Report):
        return msgspec.structs.replace(event, spans=tuple(_span(span, techniques) for span in event.spans))
    if isinstance(event, Template) and not event.tactics:
        found = {tactic for each in event.techniques for tactic in tactics_of(each, techniques)}
        return msgspec.structs.replace(event, tactics=tuple(sorted(found)))
    if isinstance(event, Relationship):
        source, target = (_node(end, techniques) for end in (event.source, event.target))
        return msgspec.structs.replace(event, source=source, target=target)
    return event


def _node(end: NodeRef, techniques: Techniques) -> NodeRef:
    if end.kind != "technique" or end.tactics:
        return end
    return msgspec.structs.replace(end, tactics=tactics_of(end.id, techniques))


def _span(span: ReportSpan, techniques: Techniques) -> ReportSpan:
    if span.kind != "technique":
        return span
    return msgspec.structs.replace(span, tactics=tactics_of(span.id, techniques))
