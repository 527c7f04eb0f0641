"""HijackLibs: libraries that programs can be made to load from the wrong place, one YAML file each."""

from __future__ import annotations

from schemas.events import Entity
from schemas.topics import ENTITIES
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.formats import fields
from streams.fetchers.formats.fields import mappings, paragraphs, required, text, texts
from streams.fetchers.sources.file_tree import FileTree, files_below

NAME = "hijacklibs"
_TECHNIQUE = "T1574.001"
"""DLL, a sub-technique of Hijack Execution Flow: what every entry is about."""


def parse_library(data: bytes, path: str, release: str) -> Entity:
    """The library in a file.

    Raises:
        BadRecord: `bad-yaml`, `not-an-object`, `empty`, `no-name`, or a limit of `schemas.limits`.
    """
    library = fields.yaml_mapping(data)
    name, vendor = required(library, "Name"), text(library, "Vendor")
    executables = mappings(library, "VulnerableExecutables")
    paths = (f"{text(each, 'Path')} ({text(each, 'Type')})" for each in executables)
    return Entity(
        id=f"{NAME}:{path.rpartition('/')[0].removeprefix('yml/')}:{name}"[:300],
        feed=NAME,
        release=release,
        kind="hijackable-library",
        name=name,
        text=paragraphs("\n".join(texts(library, "ExpectedLocations")), "\n".join(dict.fromkeys(paths))),
        category=vendor,
        tags=tuple(dict.fromkeys(kind for each in executables if (kind := text(each, "Type")))),
        techniques=(_TECHNIQUE,),
        cves=fields.cves(texts(library, "CVE")),
        platforms=("Windows",),
        references=texts(library, "Resources"),
        path=path,
        author=text(library, "Author"),
        date=text(library, "Created"),
    )


FEED = FeedSpec(
    name=NAME,
    default_source="https://github.com/wietze/HijackLibs.git",
    topics=(ENTITIES,),
    collection=FileTree(includes=files_below("yml", ".yml"), parse=parse_library, is_named_by_path=True),
    modules=(__name__, *fields.MODULES),
    about="libraries that can be hijacked",
    labels_by_technique=True,
)
