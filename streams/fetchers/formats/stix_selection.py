"""Which objects of a bundle count for a feed.

raw objects ──decode──> objects of the domain ──> latest version of each STIX id ──> one object for each graph id
     └ rejected              └ left out: other-domain      └ left out: older-version      └ rejected: duplicate-id

One object's fault is its own: whatever is raised in reading it, the others are read.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from schemas.errors import BadRecord
from streams.fetchers.base.feed import LeftOut, Outcome, RejectedItem, rejected_item
from streams.fetchers.formats import stix
from streams.fetchers.formats.stix import Domain, StixObject

OTHER_DOMAIN = "other-domain"
OLDER_VERSION = "older-version"


class BundleObject(msgspec.Struct, frozen=True):
    """An object of a bundle.

    Attributes:
        object: Its fields.
        raw: Its bytes.
        key: Its graph id; its STIX id where it has no usable graph id.
        modified_ms: When it was modified, ms since 1970; 0 where it doesn't say, -1 where that is no usable time.
    """

    object: StixObject
    raw: bytes | memoryview
    key: str
    modified_ms: int

    def rejected(self, feed: str, error: BadRecord) -> RejectedItem:
        """The object as a rejected item."""
        return rejected_item(f"{feed}:{self.object.id}", error, self.raw)


class Selection(msgspec.Struct, frozen=True):
    """The result of `select`.

    Attributes:
        objects: Those that count, each with another key, in the order of the bundle.
        same_key: STIX id of an object that does not count -> the key that another object has, too.
        outcomes: What is rejected or left out.
        ids: Every STIX id in the bundle.
    """

    objects: list[BundleObject]
    same_key: dict[str, str]
    outcomes: list[Outcome]
    ids: set[str]


def fault(error: Exception) -> BadRecord:
    """Whatever was raised in reading one object, as the reason of its dead letter."""
    if isinstance(error, BadRecord):
        return error
    return BadRecord("unreadable", f"{type(error).__name__}: {error!s:.200}")


def select(raws: Sequence[bytes | memoryview], domain: Domain | None, feed: str) -> Selection:
    """Decode the objects of a bundle and select those that count.

    Args:
        raws: The bytes of each object.
        domain: The domain of the feed; None: it is not ATT&CK, and all objects are its own.
        feed: Its name.

    Raises:
        BadRecord: `wrong-domain`: all techniques are of other domains.
    """
    decoded: list[BundleObject] = []
    outcomes: list[Outcome] = []
    ids: set[str] = set()
    for position, raw in enumerate(raws):
        try:
            decoded.append(_bundle_object(raw))
        except Exception as error:  # noqa: BLE001 - one object's fault is its own dead letter
            ids.add(stix.id_in(raw))
            outcomes.append(_rejected_raw(feed, position, raw, fault(error)))
    ids.update(each.object.id for each in decoded)
    own = decoded if domain is None else _of_domain(decoded, domain, feed, outcomes)
    latest = _latest_versions(own, feed, outcomes)
    objects, same_key = _one_for_each_key(latest, feed, outcomes)
    return Selection(objects, same_key, outcomes, ids)


def readable(raws: Iterable[bytes | memoryview]) -> list[BundleObject]:
    """The objects that can be decoded."""
    found = []
    for raw in raws:
        with contextlib.suppress(Exception):  # `select` rejects the others
            found.append(_bundle_object(raw))
    return found


def _bundle_object(raw: bytes | memoryview) -> BundleObject:
    found = stix.decode_object(raw)
    try:
        modified_ms = stix.time_ms(found.modified)
    except BadRecord:  # it is rejected when its event is made
        modified_ms = -1
    return BundleObject(found, raw, key_of(found), modified_ms)


def key_of(found: StixObject) -> str:
    """The graph id of an object; its STIX id where it has no usable one."""
    try:
        return stix.graph_id(found)
    except BadRecord:  # it is rejected when its event is made
        return found.id


def _rejected_raw(feed: str, position: int, raw: bytes | memoryview, error: BadRecord) -> RejectedItem:
    """An object that can't be decoded: its origin is its id or a hash of its bytes, not its place in the bundle."""
    name = stix.id_in(raw) or f"object-{hashlib.blake2b(raw, digest_size=8).hexdigest()}"
    detail = f"object {position} of the bundle: {error.detail}"
    return rejected_item(f"{feed}:{name}", BadRecord(error.reason, detail), raw)


def _of_domain(
    objects: list[BundleObject], domain: Domain, feed: str, outcomes: list[Outcome]
) -> list[BundleObject]:
    """The objects of a domain, if the bundle has techniques of several; relationships follow their ends."""
    chains = set[str]().union(*(stix.attack_chains(o) for each in objects if (o := each.object).kill_chain_phases))
    if chains <= {stix.KILL_CHAINS[domain]}:
        return objects
    if stix.KILL_CHAINS[domain] not in chains:
        domains = sorted(d for d, chain in stix.KILL_CHAINS.items() if chain in chains)
        raise BadRecord("wrong-domain", f"the bundle is of {', '.join(domains)}, the feed of {domain}")
    others = {each.object.id for each in objects if not _is_of_domain(each.object, domain)}
    others -= {each.object.id for each in objects if _is_of_domain(each.object, domain)}
    own = []
    for each in objects:
        if others.isdisjoint((each.object.id, each.object.source_ref, each.object.target_ref)):
            own.append(each)
        else:
            outcomes.append(LeftOut(f"{feed}:{each.object.id}", OTHER_DOMAIN))
    return own


def _is_of_domain(found: StixObject, domain: Domain) -> bool:
    """By its kill chains; without them by the domains that it names; without these it may be of any domain."""
    if chains := stix.attack_chains(found):
        return stix.KILL_CHAINS[domain] in chains
    return not found.x_mitre_domains or domain in found.x_mitre_domains


def _latest_versions(objects: Iterable[BundleObject], feed: str, outcomes: list[Outcome]) -> list[BundleObject]:
    """Of several versions of one STIX id the one modified last, whatever its status; of equal ones the first."""
    best: dict[str, BundleObject] = {}
    for candidate in objects:
        other = best.setdefault(candidate.object.id, candidate)
        if other is candidate:
            continue
        if other.modified_ms == candidate.modified_ms:
            outcomes.append(candidate.rejected(feed, _duplicate(candidate)))
            continue
        older, newer = sorted((candidate, other), key=lambda each: each.modified_ms)
        best[candidate.object.id] = newer
        outcomes.append(LeftOut(f"{feed}:{older.object.id}", OLDER_VERSION))
    return list(best.values())


def _one_for_each_key(
    objects: Iterable[BundleObject], feed: str, outcomes: list[Outcome]
) -> tuple[list[BundleObject], dict[str, str]]:
    """Of several objects with one graph id an active one, then the one modified last, then the first."""
    best: dict[str, BundleObject] = {}
    same_key: dict[str, str] = {}
    for candidate in objects:
        other = best.setdefault(candidate.key, candidate)
        if other is not candidate:
            worse, best[candidate.key] = sorted((candidate, other), key=_preference)
            same_key[worse.object.id] = worse.key
            outcomes.append(worse.rejected(feed, _duplicate(worse)))
    return list(best.values()), same_key


def _preference(found: BundleObject) -> tuple[bool, int]:
    return found.object.status == "active", found.modified_ms


def _duplicate(found: BundleObject) -> BadRecord:
    return BadRecord("duplicate-id", f"the bundle has {found.key} more than once")
