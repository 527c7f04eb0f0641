"""Tactics and techniques of what a feed says, in the words of ATT&CK as it is published now. Pure.

    event, techniques of the topic ──in_current_words──> the same event, with
        each technique that was replaced     its successor
        no tactics of its own                the tactics of its techniques
        tactics that ATT&CK has now          its own
        tactics of another release           those of its techniques; if one is not known, none, and counted

A rule, a report or a test says which technique it is about; which tactics that serves is ATT&CK's to say, and
changes with its releases. A feed may be ahead of the release that is known here, or behind it. Beside ATT&CK 17.1
the tactic `stealth` of a rule teaches nothing, unless its techniques say what it is there. When the techniques of
the topic change, the feeds that depend on them are read anew, and what is different now is published again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from schemas.encoding import EncodedEvent, encode_event
from schemas.events import Entity, Event, NodeRef, Relationship, Report, ReportSpan, Status, Technique, Template
from schemas.successors import chain
from streams.fetchers.base.feed import LeftOut, Outcome, UnchangedFile

OTHER_RELEASE = "tactics-of-another-release"
"""Why the tactics of an event are set aside: the reason under which it is counted."""
_DOMAIN = "enterprise-attack"
"""The domain of what names no technique that is known."""


class KnownTechnique(msgspec.Struct, frozen=True):
    """What was last published of a technique: its tactics, the id that replaced it, its domain and status."""

    tactics: tuple[str, ...] = ()
    revoked_by: str = ""
    domain: str = _DOMAIN
    status: Status = "active"


def known_technique(event: Technique) -> KnownTechnique:
    """What is known of a technique from its event."""
    return KnownTechnique(event.tactics, event.revoked_by, event.domain, event.status)


Techniques = Mapping[str, KnownTechnique]
"""Id of a technique -> what is known of it."""


def techniques_digest(techniques: Techniques) -> str:
    """16 hex digits that change with any tactic, replacement or status."""
    state = hashlib.blake2b(digest_size=8)
    for key, known in sorted(techniques.items()):
        state.update(f"{key} {known.revoked_by} {known.status} {' '.join(known.tactics)}\n".encode())
    return state.hexdigest()


class Release:
    """ATT&CK as it is published now.

    Args:
        techniques: What is known of each technique.
    """

    def __init__(self, techniques: Techniques) -> None:
        self._techniques = techniques
        self._tactics: dict[str, set[str]] = {}
        for known in techniques.values():
            if known.status == "active":
                self._tactics.setdefault(known.domain, set()).update(known.tactics)

    def successor(self, technique: str) -> str:
        """The id of what replaced a technique, or its own; of a circle its own."""
        return chain(technique, self._revoked_by)[-1]

    def _revoked_by(self, technique: str) -> str:
        known = self._techniques.get(technique)
        return known.revoked_by if known else ""

    def tactics_of(self, technique: str) -> tuple[str, ...]:
        """The tactics of a technique, or of what replaced it; none if it is not known.

        A technique that is not active any more keeps only the tactics that its domain still has.

        >>> known = {"T1": KnownTechnique((), "T2"), "T2": KnownTechnique(("impact",))}
        >>> Release(known).tactics_of("T1"), Release(known).tactics_of("T9")
        (('impact',), ())
        """
        known = self._techniques.get(self.successor(technique), KnownTechnique())
        if known.revoked_by or known.status == "active":
            return () if known.revoked_by else known.tactics
        return tuple(each for each in known.tactics if each in self._tactics.get(known.domain, ()))

    def tactics_of_all(self, techniques: Collection[str]) -> tuple[str, ...] | None:
        """The tactics of some techniques, sorted; None if there is no technique, or one without tactics."""
        found = [self.tactics_of(each) for each in techniques]
        return tuple(sorted({tactic for each in found for tactic in each})) if found and all(found) else None

    def has(self, tactics: Collection[str], techniques: Collection[str]) -> bool:
        """Whether the domains of some techniques have all of some tactics; without techniques ATT&CK Enterprise."""
        if not self._tactics:  # nothing of ATT&CK is published yet
            return True
        domains = {self._techniques[each].domain for each in techniques if each in self._techniques} or {_DOMAIN}
        return set(tactics) <= {each for domain in domains for each in self._tactics.get(domain, ())}

    def node(self, node: NodeRef) -> NodeRef:
        """An end of a relationship: a replaced technique is its successor, and one without tactics gets them."""
        if node.kind != "technique":
            return node
        found = self.successor(node.id)
        if found != node.id and found in self._techniques:
            status = self._techniques[found].status
            return NodeRef(id=found, kind=node.kind, tactics=self.tactics_of(found), status=status)
        return node if node.tactics else msgspec.structs.replace(node, tactics=self.tactics_of(node.id))


def in_current_words(
    outcomes: Sequence[Outcome], techniques: Techniques, set_aside_before: Sequence[str] = ()
) -> list[Outcome]:
    """The outcomes of a feed whose events name techniques, in the words of ATT&CK as it is published now.

    Args:
        outcomes: Of the feed.
        techniques: What is known of each technique.
        set_aside_before: Origins of the events whose tactics were set aside when their files were read.

    Returns:
        The outcomes, and one more of the reason `OTHER_RELEASE` for each event whose tactics are set aside, also
        where its file did not change.
    """
    release, found = Release(techniques), list[Outcome]()
    before = {origin.partition(":")[2]: origin for origin in set_aside_before}
    for outcome in outcomes:
        if not isinstance(outcome, EncodedEvent):
            found.append(outcome)
            if isinstance(outcome, UnchangedFile) and not outcome.reason and outcome.id in before:
                found.append(LeftOut(before[outcome.id], OTHER_RELEASE))
            continue
        event, is_set_aside = _in_words_of(release, outcome.event)
        found.append(outcome if event == outcome.event else encode_event(event))
        if is_set_aside:
            found.append(LeftOut(f"{event.feed}:{event.id}", OTHER_RELEASE))
    return found


def set_aside(outcomes: Iterable[Outcome]) -> tuple[str, ...]:
    """The origins of the events whose tactics are set aside."""
    return tuple(each.origin for each in outcomes if isinstance(each, LeftOut) and each.reason == OTHER_RELEASE)


def _in_words_of(release: Release, event: Event) -> tuple[Event, bool]:
    """An event in the words of a release, and whether its tactics are set aside."""
    match event:
        case Report():
            return _report(release, event)
        case Template():
            return _template(release, event)
        case Entity():
            return msgspec.structs.replace(event, techniques=_successors(release, event.techniques)), False
        case Relationship():
            source, target = release.node(event.source), release.node(event.target)
            return msgspec.structs.replace(event, source=source, target=target), False
    return event, False


def _template(release: Release, event: Template) -> tuple[Template, bool]:
    techniques = _successors(release, event.techniques)
    tactics, is_set_aside = event.tactics, False
    if not tactics:
        tactics = tuple(sorted({tactic for each in techniques for tactic in release.tactics_of(each)}))
    elif not release.has(tactics, techniques):
        known = release.tactics_of_all(techniques)
        tactics, is_set_aside = known or (), known is None
    return msgspec.structs.replace(event, techniques=techniques, tactics=tactics), is_set_aside


def _report(release: Release, event: Report) -> tuple[Report, bool]:
    named = [span.id for span in event.spans if span.kind == "technique"]
    own = {tactic for span in event.spans if span.kind != "technique" for tactic in span.tactics}
    foreign = set() if release.has(own, named) else {each for each in own if not release.has((each,), named)}
    is_set_aside = bool(foreign) and release.tactics_of_all(named) is None
    spans = tuple(_span(release, span, foreign, is_set_aside=is_set_aside) for span in event.spans)
    return msgspec.structs.replace(event, spans=spans), is_set_aside


def _span(release: Release, span: ReportSpan, foreign: Collection[str], *, is_set_aside: bool) -> ReportSpan:
    if span.kind == "technique":
        tactics = () if is_set_aside else release.tactics_of(span.id)
        return msgspec.structs.replace(span, id=release.successor(span.id), tactics=tactics)
    kept = () if is_set_aside else tuple(each for each in span.tactics if each not in foreign)
    return msgspec.structs.replace(span, tactics=kept)


def _successors(release: Release, techniques: tuple[str, ...]) -> tuple[str, ...]:
    if not techniques:
        return techniques
    return tuple(sorted({release.successor(each) for each in techniques}))
