"""STIX 2.0 and 2.1 objects as far as ATT&CK uses them, decoded one by one and checked.

raw JSON ──decode──> StixObject ──> reference, status, times, key in the graph
"""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from schemas import ids
from schemas.errors import BadRecord
from schemas.events import Status
from schemas.text import meaningful, means_something

TECHNIQUE = "attack-pattern"
RELATIONSHIP = "relationship"
ANALYTIC = "x-mitre-analytic"
STRATEGY = "x-mitre-detection-strategy"
REVOKED_BY = "revoked-by"
COLLECTION = "x-mitre-collection"

ENTITY_KINDS = {
    "intrusion-set": "group",
    "malware": "malware",
    "tool": "tool",
    "campaign": "campaign",
    "course-of-action": "mitigation",
    "x-mitre-tactic": "tactic",
    "x-mitre-data-source": "data-source",
    "x-mitre-data-component": "data-component",
    STRATEGY: "detection-strategy",
    ANALYTIC: "analytic",
    "x-mitre-asset": "asset",
    "x-mitre-matrix": "matrix",
    "vulnerability": "vulnerability",
}
"""STIX type -> kind of entity."""

NOT_EVENTS = frozenset(("identity", "marking-definition", COLLECTION))
"""Objects about the bundle itself."""

_ATTACK_SOURCES = ("mitre-attack", "mitre-ics-attack", "mitre-mobile-attack")
_TECHNIQUE_ID = re.compile(ids.TECHNIQUE)
_CVE = re.compile(ids.CVE)
_STIX_ID = re.compile(r"(?P<type>[a-z0-9-]{3,60})--[A-Za-z0-9-]{1,100}")
_ID_FIELD = re.compile(rb'"id"\s{0,9}:\s{0,9}"(?P<id>[a-z0-9-]{3,60}--[A-Za-z0-9-]{1,100})"')
_RELEASE = re.compile(r"[\w.-]{1,40}", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


class Reference(msgspec.Struct, frozen=True):
    """An external reference: `external_id` is what people call the object, if `source_name` is ATT&CK."""

    source_name: str = ""
    external_id: str = ""


class Phase(msgspec.Struct, frozen=True):
    """A phase of a kill chain; ATT&CK's tactics are phases."""

    kill_chain_name: str = ""
    phase_name: str = ""


class Content(msgspec.Struct, frozen=True):
    """An object that a collection says it has."""

    object_ref: str = ""


class StixObject(msgspec.Struct, frozen=True):
    """The fields that are read; the rest of an object is passed over."""

    type: str = ""
    id: str = ""
    name: str = ""
    description: str = ""
    created: str = ""
    modified: str = ""
    revoked: bool = False
    aliases: tuple[str, ...] = ()
    external_references: tuple[Reference, ...] = ()
    kill_chain_phases: tuple[Phase, ...] = ()
    relationship_type: str = ""
    source_ref: str = ""
    target_ref: str = ""
    x_mitre_aliases: tuple[str, ...] = ()
    x_mitre_analytic_refs: tuple[str, ...] = ()
    x_mitre_contents: tuple[Content, ...] = ()
    x_mitre_deprecated: bool = False
    x_mitre_detection: str = ""
    x_mitre_domains: tuple[str, ...] = ()
    x_mitre_platforms: tuple[str, ...] = ()
    x_mitre_shortname: str = ""
    x_mitre_version: str = ""

    @property
    def status(self) -> Status:
        """Revoked is stronger than deprecated."""
        return "revoked" if self.revoked else "deprecated" if self.x_mitre_deprecated else "active"


_decoder = msgspec.json.Decoder(StixObject)


def decode_object(raw: bytes | memoryview) -> StixObject:
    """One object of a bundle, its type and id checked.

    Raises:
        BadRecord: `not-an-object`, `bad-json`, `too-deep`, `wrong-type` (the message names the field),
            `no-type`, `no-id`, `bad-id`.
    """
    found = _decoded(raw)
    if not found.type:
        raise BadRecord("no-type", f"object {found.id!r:.200} has no type")
    if not found.id:
        raise BadRecord("no-id", f"a {found.type:.50} has no id")
    match = _STIX_ID.fullmatch(found.id)
    if match is None or match["type"] != found.type:
        raise BadRecord("bad-id", f"{found.id!r:.200} is not the id of a {found.type:.50}")
    return found


def _decoded(raw: bytes | memoryview) -> StixObject:
    try:
        return _decoder.decode(raw)
    except msgspec.ValidationError as error:
        if bytes(raw[:64]).lstrip()[:1] != b"{":
            raise BadRecord("not-an-object", f"{bytes(raw[:50])!r} is not a JSON object") from error
        raise BadRecord("wrong-type", str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRecord("bad-json", str(error)) from error
    except RecursionError as error:
        raise BadRecord("too-deep", "nested deeper than a JSON parser goes") from error


def id_in(raw: bytes | memoryview) -> str:
    """The first STIX id that an object which can't be decoded gives as its `id`; empty if it gives none."""
    match = _ID_FIELD.search(raw)
    return match["id"].decode() if match else ""


def graph_id(found: StixObject) -> str:
    """The key in the graph: a technique's external id, a vulnerability's CVE, otherwise the STIX id.

    Raises:
        BadRecord: `no-id` or `bad-id`: a technique or vulnerability without a usable one.
    """
    if found.type == TECHNIQUE:
        return _matching(_TECHNIQUE_ID, external_id(found), found)
    if found.type == "vulnerability":
        return _matching(_CVE, _reference(found, ("cve",)) or found.name, found)
    return found.id


def external_id(found: StixObject) -> str:
    """What ATT&CK calls the object (`G0016`), or nothing."""
    return _reference(found, _ATTACK_SOURCES)


def _reference(found: StixObject, sources: tuple[str, ...]) -> str:
    names = (r.external_id for r in found.external_references if r.source_name in sources and r.external_id)
    return next(names, "")


def _matching(pattern: re.Pattern[str], name: str, found: StixObject) -> str:
    if not name:
        raise BadRecord("no-id", f"{found.id} has no external id")
    if not pattern.fullmatch(name):
        raise BadRecord("bad-id", f"{found.id}: external id {name!r:.50} is not like {pattern.pattern}")
    return name


@functools.lru_cache(maxsize=4_096)
def time_ms(text: str) -> int:
    """A STIX timestamp as ms since 1970; 0 for an empty one.

    Raises:
        BadRecord: `bad-time`: not RFC 3339 with a time zone, or before 1970.

    >>> time_ms("2017-05-31T21:30:19.735Z")
    1496266219735
    """
    if not text:
        return 0
    try:
        since = datetime.fromisoformat(text) - _EPOCH
    except (ValueError, TypeError, OverflowError) as error:
        raise BadRecord("bad-time", f"{text!r:.50} is not a time such as 2024-04-28T15:58:48.119Z") from error
    if since < timedelta(0):
        raise BadRecord("bad-time", f"{text!r:.50} is before 1970")
    return since // _MS


def release(collection: StixObject) -> str:
    """The release of a collection; empty where it gives none.

    Raises:
        BadRecord: `bad-release`: not a short word such as `17.1`.
    """
    version = collection.x_mitre_version
    if version and not _RELEASE.fullmatch(version):
        detail = f"{collection.id}: `x_mitre_version` {version!r:.50} of {len(version)} characters is not like 17.1"
        raise BadRecord("bad-release", detail)
    return version


def named(found: StixObject) -> str:
    """The object's name.

    Raises:
        BadRecord: `no-name`: it has none, or one that means nothing.
    """
    if not means_something(found.name):
        raise BadRecord("no-name", f"{found.id} has no name")
    return found.name


Domain = Literal["enterprise-attack", "ics-attack", "mobile-attack"]
KILL_CHAINS: dict[Domain, str] = {
    "enterprise-attack": "mitre-attack",
    "ics-attack": "mitre-ics-attack",
    "mobile-attack": "mitre-mobile-attack",
}


def tactics(found: StixObject, domain: Domain) -> tuple[str, ...]:
    """The technique's tactics: its phases in the kill chain of its domain, sorted."""
    chain = KILL_CHAINS[domain]
    return meaningful(sorted({p.phase_name for p in found.kill_chain_phases if p.kill_chain_name == chain}))


def attack_chains(found: StixObject) -> set[str]:
    """The kill chains of ATT&CK that an object has phases of."""
    return {phase.kill_chain_name for phase in found.kill_chain_phases}.intersection(KILL_CHAINS.values())
