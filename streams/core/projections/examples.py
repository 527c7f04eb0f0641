"""What each model can learn from one event: `project(model, event)` gives at most one example.

    distilbert-mitre    technique                  its text                          its tactics
                        uses relationship          the procedure sentence            those of the technique
                        template                   name, description and tags        its severity, if one of five
    phi3-mitre-lora     technique                  explanation, detection guidance   its tactics
                        mitigates, detects         how, by what                      those of the technique
    gnn-threat          technique, entity          a node                            its tactics, or none
                        relationship               a link                            relation and kind of source

An event that the feed took back (revoked, deprecated, one end of it gone, without labels) retracts what was learnt
from it earlier. Every example of phi3 is in the group of its technique, so nothing of a held-out one is trained on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping

import msgspec

from schemas.events import Entity, Event, Relationship, Technique, Template
from schemas.journal import Example, Instruction, Link, Node, Source
from schemas.taxonomy import SEVERITIES, severity_label, taxonomy
from schemas.topics import ENTITIES, RELATIONSHIPS, TECHNIQUES, TEMPLATES, Topic
from streams.core.projections import instructions

MAX_TEXT_CHARS = 8_000
"""Longer texts are cut: no encoder here reads further, and the journal stays light."""

NODE_KINDS = frozenset(
    ("group", "malware", "tool", "campaign", "mitigation", "data-component", "detection-strategy", "asset")
)
"""Kinds of entities that relationships join; of the others a graph learns nothing."""

_CITATION = re.compile(r"\(Citation: [^)]{0,300}\)")
_LINK = re.compile(r"\[([^\]\[]{1,300})\]\([^()\s]{0,500}\)")
_TAG = re.compile(r"</?(?:code|br|p|i|b|ul|li)\s*/?>", re.IGNORECASE)


def clean_text(text: str) -> str:
    """ATT&CK's prose without citations, link targets and markup, on one line, at most `MAX_TEXT_CHARS`.

    >>> clean_text("[Shamoon](https://x.test/S0140) obtains the time.(Citation: Palo Alto 2016)")
    'Shamoon obtains the time.'
    """
    text = text[: 4 * MAX_TEXT_CHARS]
    if "(Citation: " in text:  # a search is ten times as fast as a substitution that finds nothing
        text = _CITATION.sub("", text)
    if "](" in text:
        text = _LINK.sub(r"\1", text)
    if "<" in text:
        text = _TAG.sub("", text)
    return " ".join(text.split())[:MAX_TEXT_CHARS]


class Projection(msgspec.Struct, frozen=True, kw_only=True):
    """What an example says beside its source; the fields are those of `schemas.journal.Example`."""

    key: str
    retracted: bool
    group: str = ""
    text: str = ""
    instructions: tuple[Instruction, ...] = ()
    node: Node | None = None
    link: Link | None = None
    labels: tuple[str, ...] = ()


_NOTHING = Projection(key="", retracted=True)
"""What a retraction says."""


def project(model: str, event: Event, source: Source, observed_ms: int = 0) -> Example | None:
    """The example that `model` can learn from an event, or None where there is nothing in it to learn.

    Args:
        model: One of `schemas.topics.MODELS`.
        event: What the feed said.
        source: Topic, partition and offset of the event.
        observed_ms: When the feed said so, ms since 1970.
    """
    make = PROJECTIONS.get(model)
    lesson = make(event) if make else None
    if lesson is None:
        return None
    labels = tuple(sorted(set(lesson.labels)))
    said = _NOTHING if lesson.retracted else lesson
    return Example(
        source=source,
        key=lesson.key,
        hash=_hash(_content(lesson), labels, lesson.retracted),
        group=lesson.group,
        text=said.text,
        instructions=said.instructions,
        node=said.node,
        link=said.link,
        labels=() if lesson.retracted else labels,
        taxonomy=_taxonomy(event),
        retracted=lesson.retracted,
        observed_ms=observed_ms,
    )


def _taxonomy(event: Event) -> str:
    """Where the labels come from. The severities of a feed have no releases."""
    if isinstance(event, Technique | Relationship):
        return taxonomy(event.domain, event.release)
    return event.feed


def _tactics_or_severity(event: Event) -> Projection | None:
    if isinstance(event, Technique):
        return Projection(
            key=f"technique:{event.id}",
            text=f"{event.name}. {clean_text(event.text)}",
            labels=event.tactics,
            retracted=event.status != "active" or not event.tactics,
        )
    if isinstance(event, Relationship) and event.relation == "uses" and event.target.kind == "technique":
        text = clean_text(event.text)
        retracted = event.status != "active" or event.target.status != "active"
        return Projection(
            key=f"relationship:{event.id}",
            text=text,
            labels=event.target.tactics,
            retracted=retracted or not event.target.tactics or not text,
        )
    if isinstance(event, Template):
        return Projection(
            key=f"template:{event.id}",
            text=clean_text(f"{event.name}. Tags: {', '.join(event.tags)}. {event.text}"),
            labels=(severity_label(event.severity),),
            retracted=event.status != "active" or event.severity not in SEVERITIES,
        )
    return None


_TAUGHT_BY = {"mitigates": instructions.of_mitigation, "detects": instructions.of_detection}
"""Relation to a technique -> the instructions in it."""


def _instructions(event: Event) -> Projection | None:
    if isinstance(event, Technique):
        key = f"technique:{event.id}"
        retracted = event.status != "active" or not event.tactics
        taught = () if retracted else instructions.of_technique(key, event, clean_text)
        return Projection(key=key, group=key, instructions=taught, labels=event.tactics, retracted=retracted)
    if isinstance(event, Relationship) and event.relation in _TAUGHT_BY and event.target.kind == "technique":
        key = f"relationship:{event.id}"
        retracted = _one_is_gone(event) or not event.target.tactics
        taught = () if retracted else _TAUGHT_BY[event.relation](key, event, clean_text)
        group = f"technique:{event.target.id}"
        return Projection(
            key=key, group=group, instructions=taught, labels=event.target.tactics, retracted=retracted
        )
    return None


def _graph(event: Event) -> Projection | None:
    if isinstance(event, Technique):
        return _node(event, "technique", event.tactics)
    if isinstance(event, Entity) and event.kind in NODE_KINDS:
        return _node(event, event.kind, ())
    if isinstance(event, Relationship) and event.relation != "revoked-by":  # one of its ends is always gone
        link = Link(
            source=event.source.id,
            source_kind=event.source.kind,
            relation=event.relation,
            target=event.target.id,
            target_kind=event.target.kind,
        )
        labels = (f"{event.relation}:{event.source.kind}",)
        return Projection(key=f"link:{event.id}", link=link, labels=labels, retracted=_one_is_gone(event))
    return None


def _node(event: Technique | Entity, kind: str, labels: tuple[str, ...]) -> Projection:
    node = Node(id=event.id, kind=kind, name=event.name, text=clean_text(event.text))
    return Projection(key=f"node:{event.id}", node=node, labels=labels, retracted=event.status != "active")


def _one_is_gone(event: Relationship) -> bool:
    return {event.status, event.source.status, event.target.status} != {"active"}


def _content(lesson: Projection) -> str:
    """Everything that can be learnt from an example but its labels."""
    content = lesson.instructions or lesson.node or lesson.link
    return msgspec.json.encode(content).decode() if content else lesson.text


def _hash(content: str, labels: tuple[str, ...], retracted: bool) -> str:
    parts = "\x00".join((content, *labels, str(retracted)))
    return hashlib.blake2b(parts.encode(), digest_size=8).hexdigest()


PROJECTIONS: Mapping[str, Callable[[Event], Projection | None]] = {
    "distilbert-mitre": _tactics_or_severity,
    "phi3-mitre-lora": _instructions,
    "gnn-threat": _graph,
}
"""Model -> what it learns from an event."""

LEARNS_FROM: Mapping[str, tuple[Topic, ...]] = {
    "distilbert-mitre": (TECHNIQUES, RELATIONSHIPS, TEMPLATES),
    "phi3-mitre-lora": (TECHNIQUES, RELATIONSHIPS),
    "gnn-threat": (TECHNIQUES, RELATIONSHIPS, ENTITIES),
}
"""Model -> the topics whose events it may learn from."""
