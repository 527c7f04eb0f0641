"""GTFOBins: Unix binaries that attackers use, one file each; today they have no suffix, earlier ones are `.md`."""

from __future__ import annotations

import re

from schemas.events import Entity
from schemas.topics import ENTITIES
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.formats import fields
from streams.fetchers.formats.fields import front_matter, mapping, mappings, paragraphs, text
from streams.fetchers.sources.file_tree import FileTree

NAME = "gtfobins"
_PATH = re.compile(r"(?:.*/)?_gtfobins/([^/]+?)(?:\.md)?")


def is_entry_path(path: str) -> bool:
    """Whether a path of the repository is an entry.

    >>> is_entry_path("_gtfobins/awk"), is_entry_path("_gtfobins/awk.md"), is_entry_path("_data/functions.yml")
    (True, True, False)
    """
    return _PATH.fullmatch(path) is not None


def parse_entry(data: bytes, path: str, release: str) -> Entity:
    """The entry in a file.

    Raises:
        BadRecord: `bad-yaml`, `not-an-object`, `empty`, or a limit of `schemas.limits`.
    """
    entry, found = front_matter(data), _PATH.fullmatch(path)
    name = found[1] if found else path
    functions = mapping(entry, "functions")
    codes = (text(each, "code") for function in functions for each in mappings(functions, function))
    comments = (text(each, "comment") for function in functions for each in mappings(functions, function))
    alias = text(entry, "alias")
    return Entity(
        id=f"{NAME}:{name}",
        feed=NAME,
        release=release,
        kind="lolbin",
        name=name,
        text=paragraphs(text(entry, "description"), text(entry, "comment"), *codes, *comments),
        aliases=(alias,) if alias else (),
        tags=tuple(functions),
        platforms=("Linux",),
        path=path,
    )


FEED = FeedSpec(
    name=NAME,
    default_source="https://github.com/GTFOBins/GTFOBins.github.io.git",
    topics=(ENTITIES,),
    collection=FileTree(includes=is_entry_path, parse=parse_entry, is_named_by_path=True),
    modules=(__name__, *fields.MODULES),
    about="Unix binaries that attackers use",
)
