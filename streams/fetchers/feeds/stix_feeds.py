"""Any STIX 2.0 or 2.1 content: `stix`, a file, a folder or a URL of bundles; `taxii`, a TAXII 2.1 collection.

    file, URL, collection ──sources/resource.py──> bundle ──┐
    folder ──every *.json of it──> objects of all bundles ──┴──> stix_events.py ──> entities, relationships

They have no place of their own. Several of a kind have names of yours: `stix-NAME`, `taxii-NAME`. What is no longer
in the file, folder or collection is withdrawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from schemas.encoding import EncodedEvent
from schemas.errors import BadRecord
from schemas.events import Entity
from schemas.models import MODELS
from schemas.topics import ENTITIES, RELATIONSHIPS
from streams.fetchers.base import limits
from streams.fetchers.base.feed import (
    Batch,
    FeedSpec,
    FeedState,
    OnProgress,
    Outcome,
    rejected_item,
    unusable_source,
)
from streams.fetchers.feeds import stix_events
from streams.fetchers.formats import fields
from streams.fetchers.formats import stix_bundle as bundle
from streams.fetchers.formats.stix_selection import select
from streams.fetchers.sources.folder import read_without_links, walk
from streams.fetchers.sources.http import is_url
from streams.fetchers.sources.resource import ParsedResource, Resource
from streams.fetchers.sources.taxii import PREFIX

STIX, TAXII = "stix", "taxii"


def parse(data: bytes, _file_name: str, feed: str) -> ParsedResource:
    """Events, rejected and left-out objects of a bundle.

    Raises:
        BadRecord: `not-a-bundle` or `too-many`.
    """
    return ParsedResource("", outcomes_of(bundle.raw_objects(data), feed), is_complete=True)


def outcomes_of(raws: Sequence[bytes | memoryview], feed: str) -> list[Outcome]:
    """The outcomes of objects: entities, then relationships, each by age and id; then the rest."""
    selection = select(raws, None, stix_events.origin_of(feed))
    return sorted([*selection.outcomes, *stix_events.outcomes(selection, feed)], key=_order)


def _order(outcome: Outcome) -> tuple[int, int, str]:
    if not isinstance(outcome, EncodedEvent):
        return 2, 0, ""
    event = outcome.event
    return 0 if isinstance(event, Entity) else 1, event.created_ms, event.id


@dataclass(frozen=True)
class StixContent:
    """Reads bundles.

    Attributes:
        is_taxii: Whether a URL is that of a TAXII collection.
        key: `user:password`, or a token, for HTTP; empty: none.
    """

    is_taxii: bool = False
    key: str = field(default="", repr=False)

    def read(self, feed: str, source: str, state: FeedState, cache_dir: Path, on_progress: OnProgress) -> Batch:
        """See `Collection.read`."""
        if Path(source).is_dir():
            try:
                return _read_folder(feed, Path(source), state, on_progress)
            except BadRecord as error:
                return unusable_source(f"{feed}:{source}", error, b"")
        if self.is_taxii and is_url(source):
            source = PREFIX + source
        file = Resource(file_in=lambda folder: folder, parse=parse, key=self.key)
        return file.read(feed, source, state, cache_dir, on_progress)


def _read_folder(feed: str, root: Path, state: FeedState, on_progress: OnProgress) -> Batch:
    """The objects of all bundles in a folder. While one can't be used, nothing is taken to be gone."""
    digest = hashlib.blake2b(digest_size=16)
    raws: list[bytes | memoryview] = []
    unusable: list[Outcome] = []
    room = limits.MAX_RESOURCE_BYTES
    for number, path in enumerate((path for path in walk(root) if path.endswith(".json")), 1):
        data = b""
        try:
            data = read_without_links(root / path, room)
            room -= len(data)
            digest.update(b"%d %s" % (len(data), path.encode(errors="replace")))
            digest.update(data)
            raws += bundle.raw_objects(data)
        except BadRecord as error:
            unusable.append(rejected_item(f"{feed}:{path}", error, data))
        if len(raws) > limits.MAX_BUNDLE_OBJECTS:
            detail = f"the folder has over {limits.MAX_BUNDLE_OBJECTS} objects, the limit"
            raise BadRecord("too-many", f"{detail}: divide it into several feeds, {STIX}-NAME")
        on_progress("collect", number, None)
    if digest.hexdigest() == state.digest and not unusable:
        return Batch("", None, state)
    on_progress("parse", 0, None)
    state = msgspec.structs.replace(FeedState(), digest="" if unusable else digest.hexdigest())
    return Batch("", [*outcomes_of(raws, feed), *unusable], state, is_complete=not unusable)


def feed_of(kind: str, name: str) -> FeedSpec:
    """A feed of STIX content.

    Args:
        kind: `stix` or `taxii`.
        name: Its name.
    """
    return FeedSpec(
        name=name,
        default_source="",
        topics=(ENTITIES, RELATIONSHIPS),
        collection=StixContent(is_taxii=kind == TAXII),
        modules=(
            __name__,
            "streams.fetchers.feeds.stix_events",
            "streams.fetchers.formats.stix",
            "streams.fetchers.formats.stix_bundle",
            "streams.fetchers.formats.stix_selection",
            *fields.MODULES,
        ),
        about="a TAXII 2.1 collection" if kind == TAXII else "STIX bundles: a file, a folder or a URL",
        teaches=MODELS,
        labels_by_technique=True,
    )
