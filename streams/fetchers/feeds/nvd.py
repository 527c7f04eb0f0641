"""NVD: CVE records by the API 2.0, those that were modified since the last complete fetch, page by page.

    since the last fetch, or `FIRST_DAYS` ──windows of `WINDOW_DAYS`──> pages of 2,000 ──> vulnerabilities

The API allows a request every six seconds, ten times as many with a key. A local source is a folder of pages as the
API answers them. A record is never gone: one that is rejected says so, and is deprecated.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from schemas.errors import BadRecord
from schemas.events import Entity
from schemas.topics import ENTITIES
from streams.fetchers.base import limits
from streams.fetchers.base.feed import Batch, FeedSpec, FeedState, OnProgress, unusable_source
from streams.fetchers.formats import json_items
from streams.fetchers.formats.fields import Fields, as_mapping, mapping, mappings, required, text, texts
from streams.fetchers.sources.folder import read_pages
from streams.fetchers.sources.http import download, is_url, without_credentials

NAME = "cve-nvd"
FIRST_DAYS = 119
"""How far back the first fetch goes."""
WINDOW_DAYS = 119
"""Longest window of the API is 120 days."""
PAUSE_S, PAUSE_WITH_KEY_S = 6.0, 0.6
"""Between two requests, seconds."""
_PAGE = 2_000
_METRICS = ("cvssMetricV40", "cvssMetricV31", "cvssMetricV30", "cvssMetricV2")
_MAX_REFERENCES = 256


@dataclass(frozen=True)
class NvdPages:
    """Reads the pages of the API, or of a folder.

    Attributes:
        key: Of the API; empty: none.
        pause_s: Between two requests, seconds; None: as the API asks for.
        now: The time; the end of the last window.
    """

    key: str = field(default="", repr=False)
    pause_s: float | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def read(self, feed: str, source: str, state: FeedState, _cache_dir: Path, on_progress: OnProgress) -> Batch:
        """See `Collection.read`; the release is the end of the last window."""
        try:
            if is_url(source):
                until = self.now().astimezone(UTC).replace(microsecond=0)
                pages = self._pages(source, _since(state, until), until, on_progress)
                return _batch(feed, list(pages), FeedState(release=until.isoformat()))
            return _read_folder(feed, Path(source), state)
        except BadRecord as error:
            return unusable_source(f"{feed}:{without_credentials(source)}", error, b"")

    def _pages(self, url: str, since: datetime, until: datetime, on_progress: OnProgress) -> Iterator[Any]:
        start = since
        while start < until:
            if start > since:
                self._pause()
            end = min(until, start + timedelta(days=WINDOW_DAYS))
            yield from self._window(url, start, end, on_progress)
            start = end

    def _window(self, url: str, start: datetime, end: datetime, on_progress: OnProgress) -> Iterator[Any]:
        done, total = 0, 1
        while done < total:
            query = {"lastModStartDate": start.isoformat(), "lastModEndDate": end.isoformat(),
                     "resultsPerPage": _PAGE, "startIndex": done}  # fmt: skip
            joined = f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"
            found = download(
                joined,
                max_bytes=limits.MAX_RESOURCE_BYTES,
                on_progress=lambda *_: None,
                headers={"apiKey": self.key} if self.key else {},
            )
            page = as_mapping(json_items.decode_document(found.data if found else b""), "a page")
            items = json_items.items_at(page, "vulnerabilities")
            total = int(page["totalResults"]) if isinstance(page.get("totalResults"), int) else 0
            if total > limits.MAX_ITEMS:
                raise BadRecord("too-many", f"the window has {total} records; the limit is {limits.MAX_ITEMS}")
            yield page
            if not items:
                break
            done += len(items)
            on_progress("collect", done, total)
            if done < total:
                self._pause()

    def _pause(self) -> None:
        usual_s = PAUSE_WITH_KEY_S if self.key else PAUSE_S
        time.sleep(usual_s if self.pause_s is None else self.pause_s)


def _since(state: FeedState, until: datetime) -> datetime:
    try:
        return datetime.fromisoformat(state.release) if state.release else until - timedelta(days=FIRST_DAYS)
    except ValueError:
        return until - timedelta(days=FIRST_DAYS)


def _read_folder(feed: str, path: Path, state: FeedState) -> Batch:
    found = read_pages(path)
    digest = hashlib.blake2b(b"\0".join(found), digest_size=16).hexdigest()
    if digest == state.digest:
        return Batch("", None, state)
    pages = [json_items.decode_document(data) for data in found]
    return _batch(feed, pages, FeedState(digest=digest))


def _batch(feed: str, pages: list[Any], state: FeedState) -> Batch:
    """Of several versions of a record on several pages the last counts."""
    latest: dict[Any, Any] = {}
    for number, page in enumerate(pages):
        for position, item in enumerate(json_items.items_at(page, "vulnerabilities")):
            cve = mapping(item, "cve") if isinstance(item, dict) else {}
            latest[text(cve, "id") or (number, position)] = cve or item
    parsed = json_items.parsed_items(feed, "", latest.values(), _key, lambda item: _vulnerability(item, feed))
    return Batch(state.release, parsed.outcomes, state)


def _key(item: Fields) -> str:
    return required(item, "id", 40)


def _vulnerability(item: Fields, feed: str) -> Entity:
    cve = _key(item)
    said = {text(each, "lang"): text(each, "value") for each in mappings(item, "descriptions")}
    weaknesses = (part for each in mappings(item, "weaknesses") for part in mappings(each, "description"))
    return Entity(
        id=cve,
        feed=feed,
        created_ms=_time_ms(item, "published"),
        modified_ms=_time_ms(item, "lastModified"),
        status="deprecated" if text(item, "vulnStatus") == "Rejected" else "active",
        kind="vulnerability",
        name=cve,
        text=said.get("en", ""),
        external_id=cve,
        category=text(item, "vulnStatus"),
        tags=tuple(dict.fromkeys(name for part in weaknesses for name in texts(part, "value"))),
        references=tuple(dict.fromkeys(filter(None, (text(each, "url") for each in mappings(item, "references")))))[
            :_MAX_REFERENCES
        ],
        severity=_severity(mapping(item, "metrics")),
    )


def _severity(metrics: Fields) -> str:
    """By the newest version of CVSS that is given; CVSS 2 writes it beside the vector."""
    for name in _METRICS:
        for metric in mappings(metrics, name):
            if found := text(mapping(metric, "cvssData"), "baseSeverity") or text(metric, "baseSeverity"):
                return found.lower()
    return ""


def _time_ms(item: Fields, key: str) -> int:
    """A time of the API, which is UTC and says no zone."""
    value = text(item, key)
    if not value:
        return 0
    try:
        found = datetime.fromisoformat(value)
    except ValueError as error:
        raise BadRecord(
            "bad-time", f"`{key}` {value!r:.50} is not a time such as 2024-04-28T15:58:48.119"
        ) from error
    return max(0, int(found.replace(tzinfo=found.tzinfo or UTC).timestamp() * 1000))


FEED = FeedSpec(
    name=NAME,
    default_source="https://services.nvd.nist.gov/rest/json/cves/2.0",
    topics=(ENTITIES,),
    collection=NvdPages(),
    modules=(__name__, *json_items.MODULES),
    about="CVE records of the last months",
)
