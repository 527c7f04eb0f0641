"""LOLBAS: binaries, libraries and scripts of Windows that attackers use, one YAML file each."""

from __future__ import annotations

from schemas.events import Entity
from schemas.topics import ENTITIES
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.formats import fields
from streams.fetchers.formats.fields import Fields, mappings, paragraphs, required, text, words
from streams.fetchers.sources.file_tree import FileTree

NAME = "lolbas"


def is_entry_path(path: str) -> bool:
    """Whether a path of the repository is an entry.

    >>> is_entry_path("yml/OSBinaries/Certutil.yml"), is_entry_path("YML-Template.yml")
    (True, False)
    """
    return path.endswith(".yml") and "/" in path


def parse_entry(data: bytes, path: str, release: str) -> Entity:
    """The entry in a file.

    Raises:
        BadRecord: `bad-yaml`, `not-an-object`, `empty`, `no-name`, or a limit of `schemas.limits`.
    """
    entry = fields.yaml_mapping(data)
    name, commands, category = required(entry, "Name"), mappings(entry, "Commands"), path.split("/")[-2]
    return Entity(
        id=f"{NAME}:{category}:{name}",
        feed=NAME,
        release=release,
        kind="lolbin",
        name=name,
        text=paragraphs(text(entry, "Description"), *(_command(each) for each in commands)),
        category=category,
        tags=tuple(dict.fromkeys(filter(None, (text(each, "Category") for each in commands)))),
        techniques=fields.techniques(text(each, "MitreID") for each in commands),
        platforms=tuple(dict.fromkeys(w for each in commands for w in words(each, "OperatingSystem"))),
        references=tuple(dict.fromkeys(filter(None, (text(e, "Link") for e in mappings(entry, "Resources"))))),
        path=path,
        author=text(entry, "Author"),
        date=text(entry, "Created"),
    )


def _command(command: Fields) -> str:
    return "\n".join(filter(None, (text(command, "Command"), text(command, "Description"))))


FEED = FeedSpec(
    name=NAME,
    default_source="https://github.com/LOLBAS-Project/LOLBAS.git",
    topics=(ENTITIES,),
    collection=FileTree(includes=is_entry_path, parse=parse_entry),
    modules=(__name__, *fields.MODULES),
    about="Windows binaries that attackers use",
    labels_by_technique=True,
)
