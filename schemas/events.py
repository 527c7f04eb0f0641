"""Events, one record per entity of a feed on a `threat.*` topic; and dead letters, records that could not be used.

    technique      threat.techniques.v1      key: external id (T1059.001)
    template       threat.templates.v1       key: feed:id
    entity         threat.entities.v1        key: STIX id or CVE
    relationship   threat.relationships.v1   key: STIX id
    report         threat.reports.v1         key: feed:document:passage
    dead letter    threat.dead-letters.v1    key: origin

An event contains everything that its consumers need (a relationship contains the tactics of its target), so no
consumer has to join topics.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.codec import MAX_RECORD_BYTES

Status = Literal["active", "deprecated", "revoked", "withdrawn"]
"""`withdrawn`: the feed had it once, and its latest full release or commit no longer has it. What is not active is
not learnt from; only the feed itself deprecates or revokes."""

MAX_EVENT_BYTES = MAX_RECORD_BYTES
"""Longest encoding of an event, bytes."""


class _Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """Fields of every event.

    Attributes:
        id: Key within the topic; also the key of the node or edge in the graph.
        feed: Name of the feed (`attack-enterprise`, `nuclei-templates`).
        release: Release of the feed with this content (`15.1`, a commit); not part of the content.
        created_ms, modified_ms: Times given by the feed, ms since 1970 UTC; 0 where it gives none.
        status: Status of the entity in the feed.
        revoked_by: Id of its replacement, where the feed names one.
        kept_by: Another feed that still has the entity after `feed` has withdrawn it; the content is from there.
    """

    id: str
    feed: str
    release: str = ""
    created_ms: int = 0
    modified_ms: int = 0
    status: Status = "active"
    revoked_by: str = ""
    kept_by: str = ""


class Technique(_Event, frozen=True, kw_only=True, omit_defaults=True, tag="technique"):
    """A technique or sub-technique of an ATT&CK domain.

    `tactics` are the short names of the domain's kill chain phases, sorted. `domain` is `enterprise-attack`,
    `ics-attack` or `mobile-attack`. `detection` is free text, empty from ATT&CK release 18 on.
    """

    stix_id: str
    name: str
    text: str = ""
    tactics: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    domain: str = ""
    detection: str = ""


class LogSource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The logs that a rule reads, in the words of Sigma: `process_creation`, `windows`, `sysmon`."""

    category: str = ""
    product: str = ""
    service: str = ""


class Template(_Event, frozen=True, kw_only=True, omit_defaults=True, tag="template"):
    """A detection template, a rule, or a test of defences.

    Attributes:
        severity: The value of the feed in lower case; `informational` is `info`.
        path: Its file in the feed.
        rule_type: What it is written for (`sigma`, `atomic`, `car`, `yara`, ...); empty: for Nuclei.
        rule_status: How far its authors trust it (`experimental`, `test`, `stable`); `status` is that of the event.
        log_source: The logs that it reads.
        detection: What it looks for, or what it runs, as text.
        false_positives: What else it finds.
        author, date: As the feed gives them.
        platforms: Systems that it is for.
        tactics: Short names of the ATT&CK tactics that the feed itself gives, sorted.
        references: Where to read more.
    """

    name: str
    text: str = ""
    severity: str = ""
    tags: tuple[str, ...] = ()
    techniques: tuple[str, ...] = ()
    cves: tuple[str, ...] = ()
    path: str = ""
    rule_type: str = ""
    rule_status: str = ""
    log_source: LogSource = LogSource()
    detection: str = ""
    false_positives: tuple[str, ...] = ()
    author: str = ""
    date: str = ""
    platforms: tuple[str, ...] = ()
    tactics: tuple[str, ...] = ()
    references: tuple[str, ...] = ()


class Entity(_Event, frozen=True, kw_only=True, omit_defaults=True, tag="entity"):
    """Any other entity: `kind` is the label of its node in the graph, in kebab case.

    Kinds of ATT&CK: `group`, `malware`, `tool`, `campaign`, `mitigation`, `tactic`, `data-source`,
    `data-component`, `detection-strategy`, `analytic`, `asset`, `matrix`, `vulnerability`. Of the other feeds:
    `vulnerability`, `exploit`, `package`, `osint-site`, `indicator`, `countermeasure`, `engagement-activity`,
    `case-study`, `lolbin`, `vulnerable-driver`, `hijackable-library`, `offensive-command`.

    Attributes:
        external_id: What people call it: `G0016`, `CVE-2021-44228`.
        category: What the feed files it under.
        tags: Words of the feed.
        techniques, cves: What it is about; each is an edge of the graph.
        platforms: Systems that it is for.
        references: Where to read more.
        path: Its file in the feed, if the feed has many.
        author, date: As the feed gives them.
        severity: Of a vulnerability, in lower case.
        score: Of a vulnerability, the probability of its exploitation within 30 days (EPSS), 0 to 1.
    """

    kind: str
    name: str
    text: str = ""
    external_id: str = ""
    aliases: tuple[str, ...] = ()
    category: str = ""
    tags: tuple[str, ...] = ()
    techniques: tuple[str, ...] = ()
    cves: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    path: str = ""
    author: str = ""
    date: str = ""
    severity: str = ""
    score: float = 0.0


class NodeRef(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One end of a relationship: `id` is its key in the graph, `kind` a kind of Entity or `technique`.

    `external_id` is what people call what mitigates or detects a technique (`M1040`); of other kinds it is empty.
    """

    id: str
    kind: str
    name: str = ""
    tactics: tuple[str, ...] = ()
    status: Status = "active"
    external_id: str = ""


class Relationship(_Event, frozen=True, kw_only=True, omit_defaults=True, tag="relationship"):
    """A typed edge: `relation` is the STIX relationship type (`uses`, `mitigates`, `detects`, ...)."""

    relation: str
    source: NodeRef
    target: NodeRef
    text: str = ""
    domain: str = ""


class ReportSpan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a part of a report is about.

    Attributes:
        start, end: The part, as positions in the text, half open.
        kind: `technique`, `tactic`, `group`, `malware` or `tool`.
        id: ATT&CK's id of it, where it is known.
        name: Its name.
        tactics: Short names of the tactics of a technique, or of the tactic itself.
    """

    start: int
    end: int
    kind: str
    id: str = ""
    name: str = ""
    tactics: tuple[str, ...] = ()


class Report(_Event, frozen=True, kw_only=True, omit_defaults=True, tag="report"):
    """A passage of a report, with what its parts are about.

    Attributes:
        document: Id of the report that the passage is from. Passages of one report are on one side of the holdout.
        name: Its title.
        text: The passage.
        spans: In the order of the text.
        path: Its file in the feed.
        date: As the feed gives it.
    """

    document: str
    name: str
    text: str
    spans: tuple[ReportSpan, ...] = ()
    path: str = ""
    date: str = ""


Event = Technique | Template | Entity | Relationship | Report


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record that could not be used.

    Attributes:
        origin: Its source: `topic/partition/offset`, `feed:file` or `feed:object`.
        reason: A short word from a small set; also the label of the metric.
        detail: Description of the fault, with the value and the limit.
        payload: The bytes, or the first `MAX_PAYLOAD_BYTES` of them.
        payload_bytes: Full size in bytes.
        time_ms: Time of the rejection, ms since 1970 UTC.
    """

    origin: str
    reason: str
    detail: str
    payload: bytes = b""
    payload_bytes: int = 0
    time_ms: int = 0


MAX_PAYLOAD_BYTES = 100_000
"""Bytes of a rejected record that its dead letter keeps."""
