"""Lists of sites and tools for open-source intelligence: what is in them is looked up, and teaches nothing.

awesome-osint       one Markdown file: headings, and links below them
osint-framework     one JSON file: a tree of folders and links
sherlock, maigret   one JSON file: sites by name
bellingcat-toolkit  Markdown, a file a tool
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from schemas.errors import BadRecord
from schemas.events import Entity
from schemas.topics import ENTITIES
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.formats import fields, json_items, table
from streams.fetchers.formats.fields import Fields, as_mapping, required, text, texts
from streams.fetchers.sources.file_tree import FileTree
from streams.fetchers.sources.resource import ParsedResource, Resource, file_named

AWESOME, FRAMEWORK, SHERLOCK, MAIGRET = "awesome-osint", "osint-framework", "sherlock", "maigret"
BELLINGCAT = "bellingcat-toolkit"
_HEADING = re.compile(r"^#{2,4}\s+(?:\[[^\]]*\]\([^)]*\)\s*)?(.{1,200}?)\s*$")
_LINK = re.compile(r"^\s*[*-]\s+\[([^\]]{1,300})\]\((https?://[^)\s]{1,2000})\)\s*(?:[-–—:]\s*)?(.*)$")
_TITLE = re.compile(r"^#\s+(.{1,300}?)\s*$", re.MULTILINE)
_MAX_DEPTH = 30


def _site(feed: str, name: str, url: str, category: str, said: str = "", tags: tuple[str, ...] = ()) -> Fields:
    return {"key": f"{feed}:{category}:{name}"[:300], "name": name, "url": url, "category": category, "said": said,
            "tags": list(tags)}  # fmt: skip


def _parsed(feed: str, sites: list[Any]) -> ParsedResource:
    """The sites of a list; of several with one name in one category the first counts."""
    first: dict[Any, Any] = {}
    for position, site in enumerate(sites):
        first.setdefault(site["key"] if isinstance(site, dict) else position, site)
    if not first:
        raise BadRecord("wrong-form", "there are no sites in it: check the source")
    return json_items.parsed_items(
        feed, "", first.values(), _key, lambda each: _entity(each, feed), is_complete=True
    )


def _key(site: Fields) -> str:
    required(site, "name", 500)
    return required(site, "key", 300)


def _entity(site: Fields, feed: str) -> Entity:
    url = text(site, "url")
    return Entity(
        id=_key(site),
        feed=feed,
        kind="osint-site",
        name=required(site, "name", 500),
        text=text(site, "said"),
        category=text(site, "category"),
        tags=texts(site, "tags"),
        references=(url,) if url else (),
    )


def _parse_awesome(data: bytes, _file_name: str, feed: str) -> ParsedResource:
    sites, category = [], ""
    for line in table.plain_text(data).splitlines():
        if heading := _HEADING.match(line):
            category = heading[1]
        elif (link := _LINK.match(line)) and category:
            sites.append(_site(feed, link[1].strip(), link[2], category, link[3].strip()))
    return _parsed(feed, sites)


def _parse_framework(data: bytes, _file_name: str, feed: str) -> ParsedResource:
    root = as_mapping(json_items.decode_document(data), "the file")
    return _parsed(feed, list(_leaves(root, (), feed)))


def _leaves(node: Fields, parents: tuple[str, ...], feed: str) -> Iterator[Fields]:
    if len(parents) > _MAX_DEPTH:
        raise BadRecord("too-deep", f"more than {_MAX_DEPTH} levels of folders")
    name = text(node, "name")
    if url := text(node, "url"):
        tags = tuple(filter(None, (text(node, "status"), text(node, "pricing"))))
        yield _site(feed, name, url, " / ".join(parents[1:]), text(node, "description"), tags)
    for child in fields.mappings(node, "children"):
        yield from _leaves(child, (*parents, name), feed)


def _parse_sherlock(data: bytes, _file_name: str, feed: str) -> ParsedResource:
    return _parsed(feed, list(_by_name(json_items.decode_document(data), feed)))


def _parse_maigret(data: bytes, _file_name: str, feed: str) -> ParsedResource:
    document = as_mapping(json_items.decode_document(data), "the file")
    return _parsed(feed, list(_by_name(document.get("sites"), feed)))


def _by_name(sites: Any, feed: str) -> Iterator[Any]:
    for name, site in as_mapping(sites, "the list of sites").items():
        if isinstance(site, dict):
            url = text(site, "url") or text(site, "urlMain")
            yield _site(feed, name, url, "username", tags=texts(site, "tags"))
        elif not name.startswith("$"):
            yield site


def _is_tool_page(path: str) -> bool:
    return path.startswith("gitbook/tools/") and path.endswith("README.md") and path.count("/") > 2


def _parse_tool_page(data: bytes, path: str, release: str) -> Entity:
    page = table.plain_text(data)
    title = _TITLE.search(page)
    if title is None:
        raise BadRecord("no-title", "the page has no heading")
    said = page[title.end() :].strip()
    link = re.search(r"https?://[^\s)>\]]{1,2000}", said)
    return Entity(
        id=f"{BELLINGCAT}:{path.split('/')[-2]}",
        feed=BELLINGCAT,
        release=release,
        kind="osint-site",
        name=title[1],
        text=said[:10_000],
        references=(link[0],) if link else (),
        path=path,
    )


def _feed(
    name: str, url: str, paths: tuple[str, ...], about: str, parse: Callable[[bytes, str, str], ParsedResource]
) -> FeedSpec:
    return FeedSpec(
        name=name,
        default_source=url,
        topics=(ENTITIES,),
        collection=Resource(file_in=file_named(*paths), parse=parse),
        modules=(__name__, *json_items.MODULES, *table.MODULES),
        about=about,
    )


_RAW = "https://raw.githubusercontent.com"
FEEDS = (
    _feed(
        AWESOME,
        f"{_RAW}/jivoi/awesome-osint/master/README.md",
        ("README.md",),
        "sites and tools by subject",
        _parse_awesome,
    ),
    _feed(
        FRAMEWORK,
        f"{_RAW}/lockfale/OSINT-Framework/master/public/arf.json",
        ("public/arf.json", "arf.json"),
        "sites and tools by subject",
        _parse_framework,
    ),
    _feed(
        SHERLOCK,
        f"{_RAW}/sherlock-project/sherlock/master/sherlock_project/resources/data.json",
        ("sherlock_project/resources/data.json", "sherlock/resources/data.json", "data.json"),
        "sites with user names",
        _parse_sherlock,
    ),
    _feed(
        MAIGRET,
        f"{_RAW}/soxoj/maigret/main/maigret/resources/data.json",
        ("maigret/resources/data.json", "data.json"),
        "sites with user names",
        _parse_maigret,
    ),
    FeedSpec(
        name=BELLINGCAT,
        default_source="https://github.com/bellingcat/toolkit.git",
        topics=(ENTITIES,),
        collection=FileTree(includes=_is_tool_page, parse=_parse_tool_page, is_named_by_path=True),
        modules=(__name__, *json_items.MODULES, *table.MODULES),
        about="tools for investigations",
    ),
)
