"""What a feed said: one record per thing, on a `threat.*` topic; and what could not be used.

    technique      threat.techniques.v1      key: external id (T1059.001)
    template       threat.templates.v1       key: feed:id
    entity         threat.entities.v1        key: STIX id or CVE
    relationship   threat.relationships.v1   key: STIX id
    dead letter    threat.dead-letters.v1    key: origin

An event carries what its consumers need (a relationship brings its target's tactics), so that no
consumer has to join by timing.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Status = Literal["active", "deprecated", "revoked"]

MAX_EVENT_BYTES = 900_000
"""An event must fit a Kafka message (1 MiB by default) with its key and headers."""


class _Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """Fields that all events share.

    Attributes:
        id: Key within the topic; also the key of the node or edge in the graph.
        feed: Name of the feed (`attack-enterprise`, `nuclei-templates`).
        release: Release of the feed that carried this content (`15.1`, a commit); not part of the content.
        created_ms, modified_ms: The feed's own times, ms since 1970 UTC; 0 where the feed has none.
        status: Whether the feed still stands by it.
        revoked_by: Id of what replaces it, where the feed says so.
    """

    id: str
    feed: str
    release: str = ""
    created_ms: int = 0
    modified_ms: int = 0
    status: Status = "active"
    revoked_by: str = ""


class Technique(_Event, frozen=True, kw_only=True, omit_defaults=True, tag="technique"):
    """A technique or sub-technique of an ATT&CK domain.

    `tactics` are the short names of the domain's kill chain phases, sorted. `domain` is `enterprise-attack`,
    `ics-attack` or `mobile-attack`. `detection` is the older free text, empty from release 18 on.
    """

    stix_id: str
    name: str
    text: str = ""
    tactics: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    domain: str = ""
    detection: str = ""


class Template(_Event, frozen=True, kw_only=True, omit_defaults=True, tag="template"):
    """A detection template or rule. `severity` is as the feed wrote it, in lower case; `path` is its file."""

    name: str
    text: str = ""
    severity: str = ""
    tags: tuple[str, ...] = ()
    techniques: tuple[str, ...] = ()
    cves: tuple[str, ...] = ()
    path: str = ""


class Entity(_Event, frozen=True, kw_only=True, omit_defaults=True, tag="entity"):
    """Anything else with a name: `kind` is the graph's node label in kebab case.

    Kinds: `group`, `malware`, `tool`, `campaign`, `mitigation`, `tactic`, `data-source`, `data-component`,
    `detection-strategy`, `analytic`, `asset`, `matrix`, `vulnerability`.
    """

    kind: str
    name: str
    text: str = ""
    external_id: str = ""
    aliases: tuple[str, ...] = ()


class NodeRef(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One end of a relationship: `id` is its key in the graph, `kind` as in Entity, or `technique`."""

    id: str
    kind: str
    name: str = ""
    tactics: tuple[str, ...] = ()
    status: Status = "active"


class Relationship(_Event, frozen=True, kw_only=True, omit_defaults=True, tag="relationship"):
    """A typed edge: `relation` is the STIX relationship type (`uses`, `mitigates`, `detects`, ...)."""

    relation: str
    source: NodeRef
    target: NodeRef
    text: str = ""
    domain: str = ""


Event = Technique | Template | Entity | Relationship


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record that could not be used.

    Attributes:
        origin: Where it came from: `topic/partition/offset`, or `feed:file` or `feed:object`.
        reason: A short word from a small set, the same that labels the metric.
        detail: What was wrong, with the value and the limit.
        payload: The bytes, or the first `MAX_PAYLOAD_BYTES` of them.
        payload_bytes: How many bytes there were.
        time_ms: When it was rejected.
    """

    origin: str
    reason: str
    detail: str
    payload: bytes = b""
    payload_bytes: int = 0
    time_ms: int = 0


MAX_PAYLOAD_BYTES = 100_000
"""Bytes of a rejected record that its dead letter keeps."""
