"""What is kept of each published event, so that the next reading of the feed can be compared with it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from schemas.encoding import EncodedEvent, without_fields
from schemas.events import Event, Relationship, Report, Status, Technique, Template

_NOT_CONTENT = ("release", "modified_ms")
_NODES = ("source", "target")


class Entry(msgspec.Struct, frozen=True):
    """What was last published under an id.

    Attributes:
        content: Digest of the event without its release and its time of change, 16 bytes.
        own_content: Of a relationship: the same without its two nodes, 8 bytes; otherwise empty.
        modified_ms: The feed's time of change, ms since 1970 UTC; 0 where it has none.
        status: The status in the feed; `withdrawn` also if another feed keeps the entity.
        labels: As `labels_of` gives them, joined by commas.
    """

    content: bytes
    own_content: bytes
    modified_ms: int
    status: Status
    labels: str


Key = tuple[str, str]
"""(topic, id) of an entity."""

Entries = Mapping[str, Mapping[str, Entry]]
"""Topic -> id -> what was last published."""


def entry_of(encoded: EncodedEvent) -> Entry:
    """The entry of an event, computed from its encoding."""
    event = encoded.event
    content, own_content = without_fields(encoded.value, *_NOT_CONTENT), b""
    if isinstance(event, Relationship):
        own_content = hashlib.blake2b(without_fields(content, *_NODES), digest_size=8).digest()
    status: Status = "withdrawn" if event.kept_by else event.status
    digest, labels = hashlib.blake2b(content, digest_size=16).digest(), ",".join(labels_of(event))
    return Entry(digest, own_content, event.modified_ms, status, labels)


def labels_of(event: Event) -> tuple[str, ...]:
    """The labels that a feed gives an event, sorted: tactics, and the severity of a template."""
    match event:
        case Technique(tactics=tactics):
            return tuple(sorted({*tactics}))
        case Template(tactics=tactics, severity=severity):
            return tuple(sorted({*tactics, *((f"severity:{severity}",) if severity else ())}))
        case Relationship(target=target):
            return tuple(sorted({*target.tactics}))
        case Report(spans=spans):
            return tuple(sorted({tactic for span in spans for tactic in span.tactics}))
        case _:
            return ()
