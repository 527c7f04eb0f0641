"""AlienVault OTX: the pulses that a user is subscribed to, those modified since the last fetch, page by page.

    key, since the last fetch ──pages──> pulses ──┬──> a report each, with its techniques
                                                  └──> an indicator for each of theirs

A local source is a folder of pages as the API answers them. The API tells only what is new, so that nothing is
withdrawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from schemas.errors import BadRecord
from schemas.events import Entity
from schemas.limits import MAX_LINE_CHARS, MAX_NAME_CHARS, MAX_WORD_CHARS, MAX_WORDS
from schemas.topics import ENTITIES
from streams.fetchers.base import limits
from streams.fetchers.base.feed import Batch, FeedSpec, FeedState, OnProgress, unusable_source
from streams.fetchers.formats import fields, json_items
from streams.fetchers.formats.fields import Fields, as_mapping, mappings, paragraphs, required, text, texts
from streams.fetchers.sources.folder import read_pages
from streams.fetchers.sources.http import download, is_url, without_credentials

NAME = "otx"
FIRST_DAYS = 30
"""How far back the first fetch goes."""
OVERLAP = timedelta(hours=1)
"""Pulses of the last time that are read again: a clock may differ from that of OTX."""
_PAGE = 50
_MAX_PAGES = 1_000


@dataclass(frozen=True)
class OtxPulses:
    """Reads the pages of the API, or of a folder.

    Attributes:
        key: Of the user.
        now: The time; the next fetch begins from there.
    """

    key: str = field(default="", repr=False)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def read(self, feed: str, source: str, state: FeedState, _cache_dir: Path, on_progress: OnProgress) -> Batch:
        """See `Collection.read`; the release is the time of the fetch."""
        try:
            if is_url(source):
                now = self.now().astimezone(UTC).replace(microsecond=0)
                pages = list(self._pages(source, _since(state, now), on_progress))
                return _batch(feed, pages, FeedState(release=now.isoformat()))
            data = read_pages(Path(source))
            digest = hashlib.blake2b(b"\0".join(data), digest_size=16).hexdigest()
            if digest == state.digest:
                return Batch("", None, state)
            return _batch(feed, [json_items.decode_document(each) for each in data], FeedState(digest=digest))
        except BadRecord as error:
            return unusable_source(f"{feed}:{without_credentials(source)}", error, b"")

    def _pages(self, url: str, since: datetime, on_progress: OnProgress) -> Iterator[Any]:
        count = 0
        for number in range(1, _MAX_PAGES + 1):
            query = {"modified_since": since.isoformat(), "limit": _PAGE, "page": number}
            joined = f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"
            found = download(
                joined,
                max_bytes=limits.MAX_RESOURCE_BYTES,
                on_progress=lambda *_: None,
                headers={"X-OTX-API-KEY": self.key} if self.key else {},
            )
            page = as_mapping(json_items.decode_document(found.data if found else b""), "a page")
            count += len(json_items.items_at(page, "results"))
            on_progress("collect", count, None)
            yield page
            if not page.get("next") or not page["results"]:
                return
        raise BadRecord("too-many", f"there are over {_MAX_PAGES} pages of {_PAGE} pulses, the limit")


def _since(state: FeedState, now: datetime) -> datetime:
    try:
        return datetime.fromisoformat(state.release) - OVERLAP
    except ValueError:
        return now - timedelta(days=FIRST_DAYS)


def _batch(feed: str, pages: list[Any], state: FeedState) -> Batch:
    """Of several versions of a pulse the first counts: the API gives the newest first."""
    pulses: dict[Any, Any] = {}
    for number, page in enumerate(pages):
        for position, item in enumerate(json_items.items_at(page, "results")):
            key = text(item, "id") if isinstance(item, dict) else ""
            pulses.setdefault(key or (number, position), item)
    parsed = json_items.parsed_items(feed, "", pulses.values(), _key, partial(_events, feed=feed))
    return Batch(state.release, parsed.outcomes, state)


def _key(pulse: Fields) -> str:
    return f"{NAME}:{required(pulse, 'id', 60)}"


def _events(pulse: Fields, *, feed: str) -> Iterator[Entity]:
    name = required(pulse, "name", 10_000)
    attack_ids = (*texts(pulse, "attack_ids"), *(text(each, "id") for each in mappings(pulse, "attack_ids")))
    families = (
        *texts(pulse, "malware_families"),
        *(text(each, "display_name") for each in mappings(pulse, "malware_families")),
    )
    yield Entity(
        id=_key(pulse),
        feed=feed,
        kind="report",
        name=name[:MAX_NAME_CHARS],
        text=paragraphs(name, text(pulse, "description")),
        category=text(pulse, "adversary")[:MAX_NAME_CHARS],
        tags=_words((*texts(pulse, "tags"), *families, *texts(pulse, "industries"))),
        techniques=fields.techniques(attack_ids)[:MAX_WORDS],
        cves=fields.cves([name, text(pulse, "description")])[:MAX_WORDS],
        references=tuple(url for url in texts(pulse, "references") if len(url) <= MAX_LINE_CHARS)[:MAX_WORDS],
        author=text(pulse, "author_name")[:MAX_LINE_CHARS],
        date=text(pulse, "created")[:MAX_WORD_CHARS],
    )
    seen: set[str] = set()
    for indicator in mappings(pulse, "indicators"):
        if (found := _indicator(indicator, pulse, feed)).id not in seen:
            seen.add(found.id)
            yield found


def _indicator(indicator: Fields, pulse: Fields, feed: str) -> Entity:
    value = text(indicator, "indicator")
    if not value:
        raise BadRecord("no-indicator", f"`indicator` is {indicator.get('indicator')!r:.100}: it must be a text")
    digest = hashlib.blake2b(value.encode(errors="replace"), digest_size=8).hexdigest()
    return Entity(
        id=f"{_key(pulse)}:{digest}",
        feed=feed,
        kind="indicator",
        name=value[:MAX_NAME_CHARS],
        text=paragraphs(value, text(indicator, "title"), text(indicator, "description"), text(pulse, "name")),
        category=text(indicator, "type")[:MAX_NAME_CHARS],
        tags=_words((text(indicator, "role"),)),
        cves=fields.cves([value])[:MAX_WORDS],
        date=text(indicator, "created")[:MAX_WORD_CHARS],
    )


def _words(found: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each[:MAX_WORD_CHARS] for each in found if each))[:MAX_WORDS]


FEED = FeedSpec(
    name=NAME,
    default_source="https://otx.alienvault.com/api/v1/pulses/subscribed",
    topics=(ENTITIES,),
    collection=OtxPulses(),
    modules=(__name__, *json_items.MODULES),
    about="pulses of AlienVault OTX",
    key_from="https://otx.alienvault.com/api",
)
