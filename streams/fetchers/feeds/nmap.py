"""Nmap: the scripts of its engine (NSE), Lua, one file each."""

from __future__ import annotations

import re

from schemas.errors import BadRecord
from schemas.events import Template
from schemas.topics import TEMPLATES
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.formats import fields
from streams.fetchers.sources.file_tree import FileTree

NAME = "nmap-scripts"
_DESCRIPTION = re.compile(
    r'^description\s*=\s*(?:\[(=*)\[(.*?)\]\1\]|"((?:[^"\\]|\\.)*)")', re.DOTALL | re.MULTILINE
)
_CATEGORIES = re.compile(r"^categories\s*=\s*\{([^}]*)\}", re.MULTILINE)
_AUTHOR = re.compile(r"^author\s*=\s*(\{[^}]*\}|\"[^\"\n]*\")", re.MULTILINE)
_QUOTED = re.compile(r"[\"']([^\"'\n]*)[\"']")
_LINK = re.compile(r"https?://[^\s>)\]]{1,500}")


def is_script_path(path: str) -> bool:
    """Whether a path of the repository is a script.

    >>> is_script_path("scripts/http-title.nse"), is_script_path("nselib/http.lua")
    (True, False)
    """
    return path.endswith(".nse")


def parse_script(data: bytes, path: str, release: str) -> Template:
    """The script in a file; its name is that of the file.

    Raises:
        BadRecord: `no-description`, or a limit of `schemas.limits`.
    """
    source, name = data.decode("utf-8", errors="replace"), path.rpartition("/")[2].removesuffix(".nse")
    found, categories, author = _DESCRIPTION.search(source), _CATEGORIES.search(source), _AUTHOR.search(source)
    if found is None:
        raise BadRecord("no-description", "the script has no `description = [[...]]`")
    description = (found[2] or found[3] or "").strip()
    return Template(
        id=f"{NAME}:{name}",
        feed=NAME,
        release=release,
        name=name,
        text=description,
        tags=tuple(dict.fromkeys(_QUOTED.findall(categories[1]))) if categories else (),
        cves=fields.cves((name, description)),
        path=path,
        rule_type="nse",
        author=", ".join(_QUOTED.findall(author[1])) if author else "",
        references=tuple(dict.fromkeys(_LINK.findall(description)))[:256],
    )


FEED = FeedSpec(
    name=NAME,
    default_source="https://github.com/nmap/nmap.git",
    topics=(TEMPLATES,),
    collection=FileTree(includes=is_script_path, parse=parse_script, is_named_by_path=True),
    modules=(__name__, *fields.MODULES),
    about="scripts of the Nmap engine",
)
