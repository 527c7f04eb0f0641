"""WADComs: commands against Active Directory, one Markdown file each, with all of it in the front matter."""

from __future__ import annotations

from schemas.events import Entity
from schemas.topics import ENTITIES
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.formats import fields
from streams.fetchers.formats.fields import front_matter, paragraphs, text, texts
from streams.fetchers.sources.file_tree import FileTree

NAME = "wadcoms"


def is_command_path(path: str) -> bool:
    """Whether a path of the repository is a command.

    >>> is_command_path("_wadcoms/NetExec-Enum-SMB-Null.md"), is_command_path("README.md")
    (True, False)
    """
    return "_wadcoms/" in path and path.endswith(".md")


def parse_command(data: bytes, path: str, release: str) -> Entity:
    """The command in a file; its name is that of the file.

    Raises:
        BadRecord: `bad-yaml`, `not-an-object`, `empty`, or a limit of `schemas.limits`.
    """
    entry, name = front_matter(data), path.rpartition("/")[2].removesuffix(".md")
    return Entity(
        id=f"{NAME}:{name}",
        feed=NAME,
        release=release,
        kind="offensive-command",
        name=name,
        text=paragraphs(text(entry, "description"), text(entry, "command")),
        tags=(*texts(entry, "attack_types"), *texts(entry, "services"), *texts(entry, "items")),
        platforms=texts(entry, "OS"),
        references=texts(entry, "references"),
        path=path,
    )


FEED = FeedSpec(
    name=NAME,
    default_source="https://github.com/WADComs/WADComs.github.io.git",
    topics=(ENTITIES,),
    collection=FileTree(includes=is_command_path, parse=parse_command, is_named_by_path=True),
    modules=(__name__, *fields.MODULES),
    about="commands against Active Directory",
)
