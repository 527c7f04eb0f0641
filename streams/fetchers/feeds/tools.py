"""Tools: the packages of Kali, a page each; and tools of which only the source is public, an entity each."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from schemas.errors import BadRecord
from schemas.events import Entity
from schemas.topics import ENTITIES
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.formats import fields, table
from streams.fetchers.formats.fields import Fields, front_matter, paragraphs, required, text, texts, words
from streams.fetchers.sources.file_tree import FileTree, ParseFile

KALI = "kali-tools"
SOURCES = {
    "osintagram": "Datalux/Osintgram",
    "socialpwned": "MrTuxx/SocialPwned",
    "phoneinfoga": "sundowndev/phoneinfoga",
    "holehe": "megadose/holehe",
    "ghunt": "mxrch/GHunt",
}
"""Feed -> repository on GitHub."""
_README_CHARS = 10_000
_MARKUP = re.compile(r"<[^>]{0,500}>|!?\[[^\]]{0,300}\]\([^)]{0,2000}\)|[#*`>|]")


def _is_package_path(path: str) -> bool:
    return path.endswith("/index.md")


def _parse_package(data: bytes, path: str, release: str) -> Entity:
    """The package on a page: all of it is in the front matter."""
    page, folder = front_matter(data), path.split("/")[-2]
    metapackages = _names(page, "Metapackages")
    return Entity(
        id=f"{KALI}:{folder}",
        feed=KALI,
        release=release,
        kind="package",
        name=required(page, "Title", 500),
        text=_description(page),
        external_id=folder,
        category=", ".join(metapackages)[:500],
        tags=metapackages,
        platforms=_names(page, "Architectures"),
        references=(*texts(page, "Homepage"), *texts(page, "Repository")),
        path=path,
    )


def _names(page: Fields, key: str) -> tuple[str, ...]:
    """Names of packages or architectures, with spaces or commas between them."""
    return tuple(dict.fromkeys(name for each in words(page, key) for name in each.split()))


def _description(page: Fields) -> str:
    return paragraphs(text(page, "Description"), text(page, "PackagesInfo"))[:100_000]


def _is_readme(path: str) -> bool:
    return path.lower() == "readme.md"


def _parse_readme(feed: str, data: bytes, path: str, release: str) -> Entity:
    said = " ".join(_MARKUP.sub(" ", table.plain_text(data)).split())[:_README_CHARS]
    if not said:
        raise BadRecord("empty", "the README has no text")
    repository = SOURCES[feed]
    return Entity(
        id=f"{feed}:{repository}",
        feed=feed,
        release=release,
        kind="package",
        name=repository.rpartition("/")[2],
        text=said,
        category="osint",
        references=(f"https://github.com/{repository}",),
        path=path,
    )


def _feed(name: str, source: str, about: str, includes: Callable[[str], bool], parse: ParseFile) -> FeedSpec:
    return FeedSpec(
        name=name,
        default_source=source,
        topics=(ENTITIES,),
        collection=FileTree(includes=includes, parse=parse, is_named_by_path=True),
        modules=(__name__, *fields.MODULES, *table.MODULES),
        about=about,
    )


FEEDS = (
    _feed(
        KALI,
        "https://gitlab.com/kalilinux/documentation/kali-tools.git",
        "packages of Kali Linux",
        _is_package_path,
        _parse_package,
    ),
    *(
        _feed(name, f"https://github.com/{repository}.git", "a tool", _is_readme, partial(_parse_readme, name))
        for name, repository in SOURCES.items()
    ),
)
