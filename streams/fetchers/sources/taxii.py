"""A TAXII 2.1 collection: what was added since the last time, page by page, kept with the rest in a mirror.

    collection ──GET objects/?added_after=...&next=...──> envelopes ──┐
    mirror, a STIX bundle with the objects of earlier fetches ────────┴──> a STIX bundle, the new mirror

An object may join one that came years ago, so the whole collection is always there to be read. The cursor is the
time at which the last object was added, in the words of the server. A mirror without a cursor, or a cursor without
a mirror, reads the whole collection again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import msgspec

from schemas.errors import BadConfiguration, BadRecord
from streams.fetchers.base import limits
from streams.fetchers.base.feed import OnProgress
from streams.fetchers.sources.folder import read_file
from streams.fetchers.sources.http import Download, authorization, download, is_url, without_credentials
from transport.files import write_atomically

PREFIX = "taxii+"
MEDIA_TYPE = "application/taxii+json;version=2.1"
_COLLECTION = re.compile(r"(?P<collection>.*/collections/[^/]+)(?:/(?:objects/?)?)?")
_MAX_CURSOR_CHARS = 64
_MAX_NEXT_CHARS = 4_096
_Objects = dict[str, msgspec.Raw]
"""STIX id, or a hash of what has none -> the object."""


class _Envelope(msgspec.Struct):
    more: bool | None = None
    next: str | None = None
    objects: list[msgspec.Raw] | None = None


class _Bundle(msgspec.Struct):
    type: str
    id: str
    objects: list[msgspec.Raw]


class _Version(msgspec.Struct):
    id: str
    modified: str = ""


def is_taxii(source: str) -> bool:
    """Whether a source is a TAXII collection.

    >>> is_taxii("taxii+https://taxii.example/api/collections/1/"), is_taxii("https://taxii.example/collections/1/")
    (True, False)
    """
    return source.lower().startswith(PREFIX) and is_url(source[len(PREFIX) :])


def objects_url(source: str) -> str:
    """The address of the objects of a collection.

    Args:
        source: `taxii+https://.../collections/ID/`; a query, such as `?match[type]=indicator`, is kept.

    Raises:
        BadConfiguration: It is not the address of a collection.
    """
    parts = urlsplit(source[len(PREFIX) :])
    found = _COLLECTION.fullmatch(parts.path)
    if found is None:
        shown = without_credentials(source)
        raise BadConfiguration(
            f"{shown} is not a TAXII collection: give an address such as {PREFIX}https://host/api/collections/ID/"
        )
    return parts._replace(path=f"{found['collection']}/objects/").geturl()


def collect(source: str, mirror: Path, added_after: str, key: str, on_progress: OnProgress) -> Download | None:
    """The collection as a STIX bundle.

    Args:
        source: `taxii+https://.../collections/ID/`.
        mirror: The file with the bundle of the last time.
        added_after: The cursor of the last complete fetch; empty: read everything.
        key: `user:password`, or a token; empty: none.
        on_progress: Called with the stage `collect` and the number of objects that came.

    Returns:
        The bundle, its cursor as `etag`; None if nothing was added.

    Raises:
        BadConfiguration: The address or the key is wrong.
        BadRecord: `bad-page`, `too-large` or `too-many`: a page is no TAXII envelope, or leads nowhere.
        RetryLater: The server can't be reached.
    """
    objects = _mirrored(mirror) if added_after else {}
    since = added_after if objects else ""
    count, cursor = 0, since
    pages = _Pages(objects_url(source), {"Accept": MEDIA_TYPE} | authorization(key))
    for page, added_last in pages.read(since):
        count += len(page)
        cursor = added_last or cursor
        _merge(objects, page)
        on_progress("collect", count, None)
    if since and not count:
        return None
    data = msgspec.json.encode(_Bundle("bundle", "bundle--mirror", list(objects.values())))
    write_atomically(mirror, data)
    return Download(data, "", etag=cursor)


class _Pages:
    """The pages of a collection.

    Args:
        url: Of its objects.
        headers: Of each request.
    """

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._url = url
        self._headers = headers
        self._bytes = 0

    def read(self, added_after: str) -> Iterator[tuple[list[msgspec.Raw], str]]:
        """The objects of each page, and when the last of them was added, as far as the server says."""
        query = {"added_after": added_after} if added_after else {}
        asked: set[str] = set()
        count = 0
        while (joined := urlencode(query)) not in asked:
            asked.add(joined)
            envelope, added_last = self._page(joined)
            page = envelope.objects or []
            count += len(page)
            if count > limits.MAX_BUNDLE_OBJECTS:
                detail = f"over {limits.MAX_BUNDLE_OBJECTS} objects came, the limit"
                raise BadRecord("too-many", f"{detail}: divide the collection with ?match[type]=")
            yield page, added_last
            if not envelope.more:
                return
            if envelope.next:
                query |= {"next": envelope.next}
            elif added_last:
                query = {"added_after": added_last}
            else:
                raise BadRecord("bad-page", "there is `more`, but neither `next` nor X-TAXII-Date-Added-Last")
        raise BadRecord("bad-page", f"page {len(asked)} says that the next is {joined!r:.200}, which came already")

    def _page(self, query: str) -> tuple[_Envelope, str]:
        url = f"{self._url}{'&' if urlsplit(self._url).query else '?'}{query}" if query else self._url
        room = limits.MAX_RESOURCE_BYTES - self._bytes
        found = download(url, max_bytes=room, on_progress=lambda *_: None, headers=self._headers)
        data, added_last = (found.data, found.added_last) if found else (b"{}", "")
        self._bytes += len(data)
        try:
            envelope = msgspec.json.decode(data, type=_Envelope)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadRecord("bad-page", f"{error} ({len(data)} bytes): it is no TAXII 2.1 envelope") from error
        for name, value, most in (
            ("next", envelope.next or "", _MAX_NEXT_CHARS),
            ("X-TAXII-Date-Added-Last", added_last, _MAX_CURSOR_CHARS),
        ):
            if len(value) > most:
                raise BadRecord("bad-page", f"`{name}` has {len(value)} characters; the limit is {most}")
        return envelope, added_last


def _mirrored(mirror: Path) -> _Objects:
    """The objects of the mirror; none if there is no usable one."""
    try:
        bundle = msgspec.json.decode(read_file(mirror, limits.MAX_RESOURCE_BYTES), type=_Bundle)
    except (BadConfiguration, BadRecord, msgspec.DecodeError, UnicodeDecodeError):
        return {}
    objects: _Objects = {}
    _merge(objects, bundle.objects)
    return objects


def _merge(objects: _Objects, page: list[msgspec.Raw]) -> None:
    """Put objects to others; of several versions of one, the last that came, unless it is an older one."""
    for raw in map(msgspec.Raw.copy, page):  # the page itself need not stay
        key, modified = _version_of(raw)
        if key not in objects or modified >= _version_of(objects[key])[1]:
            objects[key] = raw


def _version_of(raw: msgspec.Raw) -> tuple[str, str]:
    try:
        found = msgspec.json.decode(raw, type=_Version)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # a rejected item, later
        return hashlib.blake2b(raw, digest_size=8).hexdigest(), ""
    return found.id, found.modified.removesuffix("Z")  # with it, 12:00:00Z would be later than 12:00:00.5Z
