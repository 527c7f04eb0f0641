"""abuse.ch: three feeds of indicators, JSON: Feodo Tracker (addresses), URLhaus (URLs), ThreatFox (all kinds).

Feodo's list is complete. The other two export what is recent, so what is no longer in them is not taken to be gone.
Times that move every day, such as the last time that a host was seen, are not part of an event.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from schemas.errors import BadRecord
from schemas.events import Entity
from schemas.topics import ENTITIES
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.formats import json_items
from streams.fetchers.formats.fields import Fields, as_mapping, required, text, texts, words
from streams.fetchers.sources.resource import ParsedResource, Resource, file_named

FEODO, URLHAUS, THREATFOX = "feodo-tracker", "urlhaus", "threatfox"
_NAME_CHARS = 500
_KEY = "sx9_id"


def _parse_feodo(data: bytes, _file_name: str, feed: str) -> ParsedResource:
    items = json_items.items_at(json_items.decode_document(data))
    return json_items.parsed_items(feed, "", items, _feodo_key, partial(_address, feed=feed), is_complete=True)


def _feodo_key(item: Fields) -> str:
    return f"{FEODO}:{required(item, 'ip_address', 60)}:{item.get('port', '')!s:.10}"


def _address(item: Fields, *, feed: str) -> Entity:
    return Entity(
        id=_feodo_key(item),
        feed=feed,
        kind="indicator",
        name=required(item, "ip_address", 60),
        text=" ".join(filter(None, (text(item, "malware"), "command and control,", text(item, "as_name")))).strip(
            ","
        ),
        aliases=texts(item, "hostname"),
        category="ip-address",
        tags=tuple(filter(None, (text(item, "malware"), text(item, "status"), text(item, "country")))),
        date=text(item, "first_seen"),
    )


def _recent(data: bytes, feed: str, event_of: Callable[..., Entity]) -> ParsedResource:
    """Indicators by number: `{"123": [{...}]}`."""
    document = as_mapping(json_items.decode_document(data), "the export")
    items = [_with_number(number, found) for number, found in document.items()]
    return json_items.parsed_items(feed, "", items, partial(_number_key, feed), partial(event_of, feed=feed))


def _with_number(number: str, found: Any) -> Any:
    first = found[0] if isinstance(found, list) and found else found
    return first | {_KEY: number} if isinstance(first, dict) else first


def _number_key(feed: str, item: Fields) -> str:
    return f"{feed}:{required(item, _KEY, 40)}"


def _url(item: Fields, *, feed: str) -> Entity:
    url = text(item, "url")
    if not url:
        raise BadRecord("no-url", f"`url` is {item.get('url')!r:.100}: it must be a text")
    return Entity(
        id=_number_key(feed, item),
        feed=feed,
        kind="indicator",
        name=url[:_NAME_CHARS],
        text=url,
        category="url",
        tags=tuple(filter(None, (text(item, "threat"), text(item, "url_status"), *texts(item, "tags")))),
        references=texts(item, "urlhaus_link"),
        author=text(item, "reporter"),
        date=text(item, "dateadded"),
    )


def _indicator(item: Fields, *, feed: str) -> Entity:
    value, malware = text(item, "ioc_value"), text(item, "malware_printable")
    if not value:
        raise BadRecord("no-ioc-value", f"`ioc_value` is {item.get('ioc_value')!r:.100}: it must be a text")
    return Entity(
        id=_number_key(feed, item),
        feed=feed,
        kind="indicator",
        name=value[:_NAME_CHARS],
        text=" ".join(filter(None, (value, malware))),
        aliases=words(item, "malware_alias"),
        category=text(item, "ioc_type"),
        tags=tuple(dict.fromkeys(filter(None, (text(item, "threat_type"), malware, *words(item, "tags"))))),
        references=texts(item, "reference"),
        author=text(item, "reporter"),
        date=text(item, "first_seen_utc"),
    )


def _parse_urlhaus(data: bytes, _file_name: str, feed: str) -> ParsedResource:
    return _recent(data, feed, _url)


def _parse_threatfox(data: bytes, _file_name: str, feed: str) -> ParsedResource:
    return _recent(data, feed, _indicator)


def _feed(
    name: str, url: str, file: str, about: str, parse: Callable[[bytes, str, str], ParsedResource]
) -> FeedSpec:
    return FeedSpec(
        name=name,
        default_source=url,
        topics=(ENTITIES,),
        collection=Resource(file_in=file_named(file), parse=parse),
        modules=(__name__, *json_items.MODULES),
        about=about,
    )


FEEDS = (
    _feed(
        FEODO,
        "https://feodotracker.abuse.ch/downloads/ipblocklist.json",
        "ipblocklist.json",
        "addresses of botnet servers",
        _parse_feodo,
    ),
    _feed(
        URLHAUS,
        "https://urlhaus.abuse.ch/downloads/json_recent/",
        "json_recent.json",
        "URLs that spread malware",
        _parse_urlhaus,
    ),
    _feed(
        THREATFOX,
        "https://threatfox.abuse.ch/export/json/recent/",
        "recent.json",
        "indicators of malware",
        _parse_threatfox,
    ),
)
