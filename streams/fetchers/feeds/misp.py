"""Any MISP feed: a manifest of events, and a JSON file for each; over HTTP or in a folder.

    manifest.json ──events whose line changed──> <uuid>.json ──┬──> a report: what the event is about
                                                               └──> an indicator for each attribute

Over HTTP only events that are new or changed are downloaded, each once: they are kept in a mirror, so that a
fetch that was cut off goes on where it was. What is no longer in the manifest, or in an event, is withdrawn.
Several feeds have names of yours: `misp-NAME`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from schemas.errors import BadConfiguration, BadRecord
from schemas.events import Entity
from schemas.limits import MAX_LINE_CHARS, MAX_NAME_CHARS, MAX_WORD_CHARS, MAX_WORDS
from schemas.topics import ENTITIES
from streams.fetchers.base import limits
from streams.fetchers.base.feed import Batch, FeedSpec, FeedState, OnProgress, unusable_source
from streams.fetchers.formats import fields, json_items
from streams.fetchers.formats.fields import Fields, as_mapping, mapping, mappings, paragraphs, required, text
from streams.fetchers.sources.file_tree import TreeFile, parse_files
from streams.fetchers.sources.folder import read_file, read_without_links
from streams.fetchers.sources.http import authorization, download, is_url, without_credentials
from transport.files import write_atomically

MISP = "misp"
MANIFEST = "manifest.json"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
UNREADABLE = "unreadable"
"""Why an event is rejected that can't be downloaded; the next fetch tries again."""
_NO_INDICATORS = frozenset(("attachment", "comment", "cpe", "link", "malware-sample", "other", "text"))
"""Types of attributes that say something about an event."""
_GALAXY = "misp-galaxy:"
_DELETED = (True, 1, "1", "true")
"""As servers of several ages write it; others write 0 or "0"."""


@dataclass(frozen=True)
class MispEvents:
    """Reads the events of a feed.

    Attributes:
        key: `user:password`, or a token, for HTTP; empty: none.
    """

    key: str = field(default="", repr=False)

    def read(self, feed: str, source: str, state: FeedState, cache_dir: Path, on_progress: OnProgress) -> Batch:
        """See `Collection.read`."""
        try:
            if is_url(source):
                files = list(self._remote(source, cache_dir / "feeds" / feed))
            else:
                files = list(_local(Path(source)))
        except BadRecord as error:
            return unusable_source(f"{feed}:{without_credentials(source)}", error, b"")
        parse = partial(parse_event, feed=feed)
        found, known = parse_files(_counted(files, on_progress), state.files, parse, feed, is_named_by_path=True)
        files_read = {path: file for path, file in known.items() if file.reason != UNREADABLE}
        return Batch("", found, FeedState(files=files_read), is_complete=True)

    def _remote(self, source: str, mirror: Path) -> Iterator[TreeFile]:
        """The events of a manifest; each is downloaded when it is read, unless the mirror has it."""
        parts = urlsplit(source)
        folder = parts.path.removesuffix(MANIFEST).rstrip("/")
        manifest = self._get(parts._replace(path=f"{folder}/{MANIFEST}").geturl())
        events = dict(_events_of(manifest))
        kept = {f"{uuid}.{oid}.json" for uuid, oid in events.items()}
        for path in mirror.glob("*.json"):
            if path.name not in kept:
                path.unlink(missing_ok=True)
        for uuid, oid in sorted(events.items()):
            url = parts._replace(path=f"{folder}/{uuid}.json").geturl()
            yield TreeFile(f"{uuid}.json", oid, partial(self._event, url, mirror / f"{uuid}.{oid}.json"))

    def _event(self, url: str, kept: Path) -> bytes:
        """The bytes of an event, from the mirror if they are there."""
        try:
            return read_file(kept, limits.MAX_MISP_EVENT_BYTES)
        except (BadConfiguration, BadRecord):  # it is not there yet
            pass
        try:
            data = self._get(url)
        except BadConfiguration as error:  # one event that can't be had is that event's dead letter
            raise BadRecord(UNREADABLE, str(error)) from error
        write_atomically(kept, data)
        return data

    def _get(self, url: str) -> bytes:
        found = download(
            url,
            max_bytes=limits.MAX_MISP_EVENT_BYTES,
            on_progress=lambda *_: None,
            headers=authorization(self.key),
        )
        return found.data if found else b""


def _local(root: Path) -> Iterator[TreeFile]:
    """The events of the manifest of a folder, or of all files with a name like theirs if it has none."""
    root = root.parent if root.name == MANIFEST else root
    if not root.is_dir():
        raise BadConfiguration(f"{root} is no folder: give a folder with {MANIFEST}, or a URL")
    if (root / MANIFEST).is_file():
        names = dict(_events_of(read_file(root / MANIFEST, limits.MAX_MISP_EVENT_BYTES)))
    else:
        names = {path.stem: "" for path in root.glob("*.json") if _UUID.fullmatch(path.stem)}
    for uuid in sorted(names):
        data, error = b"", None
        try:
            data = read_without_links(root / f"{uuid}.json", limits.MAX_MISP_EVENT_BYTES)
        except BadRecord as found:
            error = found
        digest = hashlib.blake2b(data + str(error or "").encode(), digest_size=16).hexdigest()
        yield TreeFile(f"{uuid}.json", digest, partial(_given, data, error))


def _given(data: bytes, error: BadRecord | None) -> bytes:
    if error is not None:
        raise error
    return data


def _events_of(manifest: bytes) -> Iterator[tuple[str, str]]:
    """UUID of each event of a manifest, and the hash of its line.

    Raises:
        BadRecord: `bad-json`, `not-an-object`, `bad-uuid`, `too-many`.
    """
    document = json_items.decode_document(manifest)
    found = {} if document == [] else as_mapping(document, "the manifest")  # PHP writes no events as []
    if len(found) > limits.MAX_ITEMS:
        raise BadRecord("too-many", f"the manifest has {len(found)} events; the limit is {limits.MAX_ITEMS}")
    for uuid, line in found.items():
        if not _UUID.fullmatch(uuid.lower()) or uuid != uuid.lower():
            raise BadRecord("bad-uuid", f"the manifest names {uuid!r:.100}: it must be a UUID in lower case")
        yield uuid, hashlib.blake2b(msgspec.json.encode(line, order="sorted"), digest_size=16).hexdigest()


def _counted(files: Sequence[TreeFile], on_progress: OnProgress) -> Iterator[TreeFile]:
    for number, file in enumerate(files, 1):
        on_progress("parse", number, len(files))
        yield file


def parse_event(data: bytes, path: str, _release: str, *, feed: str) -> Sequence[Entity]:
    """What a MISP event is about, and its indicators.

    Args:
        data, path: Its file.
        feed: Name of the feed.

    Raises:
        BadRecord: `bad-json`, `not-an-object`, `no-uuid`, `bad-uuid`, `no-info`, `too-many`, or a limit.
    """
    document = as_mapping(json_items.decode_document(data), "the file")
    event = as_mapping(document.get("Event"), "`Event`")
    if required(event, "uuid", 40) != path.removesuffix(".json"):
        raise BadRecord("bad-uuid", f"`uuid` is {event['uuid']!r:.50}, in {path}")
    objects = mappings(event, "Object")
    attributes = [*mappings(event, "Attribute"), *(a for each in objects for a in mappings(each, "Attribute"))]
    if len(attributes) > limits.MAX_ITEMS:
        raise BadRecord("too-many", f"it has {len(attributes)} attributes; the limit is {limits.MAX_ITEMS}")
    there = [each for each in attributes if each.get("deleted") not in _DELETED]
    said = [each for each in there if text(each, "type") in _NO_INDICATORS]
    indicators: dict[str, Entity] = {}
    for each in there:
        if text(each, "type") not in _NO_INDICATORS:
            indicator = _indicator(each, event, path, feed)
            indicators.setdefault(indicator.id, indicator)
    return [_report(event, said, path, feed), *indicators.values()]


def _report(event: Fields, said: Sequence[Fields], path: str, feed: str) -> Entity:
    tags = [*_tags(event), *_galaxies(event)]
    texts = (text(each, "value") for each in said if text(each, "type") in ("comment", "text"))
    links = (text(each, "value") for each in said if text(each, "type") == "link")
    info = required(event, "info", 100_000)
    return Entity(
        id=f"{feed}:{event['uuid']}",
        feed=feed,
        kind="report",
        name=info[:MAX_NAME_CHARS],
        text=paragraphs(info, *dict.fromkeys(texts)),
        tags=_words(tag for tag in tags if not tag.startswith(_GALAXY)),
        techniques=fields.techniques(tags)[:MAX_WORDS],
        cves=fields.cves([info, *(text(each, "value") for each in said)])[:MAX_WORDS],
        references=tuple(dict.fromkeys(url for url in links if url and len(url) <= MAX_LINE_CHARS))[:MAX_WORDS],
        path=path,
        author=text(mapping(event, "Orgc"), "name")[:MAX_LINE_CHARS],
        date=text(event, "date")[:MAX_WORD_CHARS],
    )


def _indicator(attribute: Fields, event: Fields, path: str, feed: str) -> Entity:
    value, key = _value(attribute), required(attribute, "uuid", 40)
    if not value:
        raise BadRecord("no-value", f"attribute {key}: `value` is {attribute.get('value')!r:.100}, not a text")
    tags = [*_tags(attribute), *_galaxies(attribute)]
    return Entity(
        id=f"{feed}:{key}",
        feed=feed,
        kind="indicator",
        name=value[:MAX_NAME_CHARS],
        text=paragraphs(value, text(attribute, "comment"), text(event, "info")),
        category=text(attribute, "type")[:MAX_NAME_CHARS],
        tags=_words(filter(None, (text(attribute, "category"), *(t for t in tags if not t.startswith(_GALAXY))))),
        techniques=fields.techniques(tags)[:MAX_WORDS],
        cves=fields.cves([value] if text(attribute, "type") == "vulnerability" else [])[:MAX_WORDS],
        path=path,
        author=text(mapping(event, "Orgc"), "name")[:MAX_LINE_CHARS],
        date=text(event, "date")[:MAX_WORD_CHARS],
    )


def _value(attribute: Fields) -> str:
    """The value of an attribute; some servers write one that is a number, such as a port, as a number."""
    value = attribute.get("value")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else text(attribute, "value")


def _tags(item: Fields) -> list[str]:
    return [name for each in mappings(item, "Tag") if (name := text(each, "name"))]


def _galaxies(item: Fields) -> list[str]:
    """The clusters of its galaxies, by the tags that they stand for."""
    clusters: Iterator[Mapping[str, Any]] = (
        cluster for galaxy in mappings(item, "Galaxy") for cluster in mappings(galaxy, "GalaxyCluster")
    )
    return [f"{_GALAXY}{text(each, 'tag_name')} {text(each, 'value')}" for each in clusters]


def _words(found: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each[:MAX_WORD_CHARS] for each in found))[:MAX_WORDS]


def feed_of(name: str) -> FeedSpec:
    """A MISP feed, `misp` or `misp-NAME`."""
    return FeedSpec(
        name=name,
        default_source="",
        topics=(ENTITIES,),
        collection=MispEvents(),
        modules=(__name__, *json_items.MODULES),
        about="a MISP feed: events and indicators",
    )
