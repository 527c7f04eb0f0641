"""Nuclei templates: a git repository or a folder with one template per file.

A template is the first YAML document of a file that has an `info`; it must have an `id`, too. Workflows, known by
their key `workflows`, and files without `info` (profiles, helpers, rules of other tools) are left out and counted.
What can't be used of a template, such as an empty item of a list or a severity that is no text, is not in the
event.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from schemas.errors import BadRecord
from schemas.events import Template
from schemas.topics import TEMPLATES
from streams.fetchers.base.feed import FeedSpec, Outcome
from streams.fetchers.formats.failsafe_yaml import Value, documents
from streams.fetchers.formats.fields import Fields, cves, mapping, paragraphs, techniques, text, words
from streams.fetchers.sources.file_tree import FileTree, NotOfFeed, folder_files, parse_files

NAME = "nuclei-templates"
_INFO, _WORKFLOWS = "info", "workflows"
_SUFFIXES = (".yaml", ".yml")
_ID = re.compile(r"[A-Za-z0-9][\w.:-]{0,199}", re.ASCII)
_ATTACK_KEY = re.compile(r"mitre|att.?ck|technique", re.IGNORECASE)


def is_template_path(path: str) -> bool:
    """Whether a path of the repository can be a template, by its suffix.

    >>> is_template_path("http/cves/a.yaml"), is_template_path("workflows/b.YML"), is_template_path("README.md")
    (True, True, False)
    """
    return path.lower().endswith(_SUFFIXES)


def parse_template(data: bytes, path: str, release: str) -> Template:
    """The template in a file.

    Args:
        data: The file, YAML.
        path: Its path, with `/`.
        release: The commit.

    Raises:
        BadRecord: `bad-yaml`, `not-an-object`, `no-id`, `bad-id`, `wrong-type`, or a limit of `schemas.limits`.
        NotOfFeed: `workflow` or `not-a-template`.
    """
    return _template(_document(data), path, release)


def parse_folder(root: Path) -> Sequence[Outcome]:
    """The templates in a folder and below it, and its rejected files, by id."""
    return parse_files(folder_files(root, is_template_path), {}, parse_template, NAME).outcomes


def _document(data: bytes) -> dict[str, Value]:
    """The first document with an `info`; the others are read too, so that a broken file is recognised."""
    found = [d for d in documents(data) if d is not None]
    mappings = [d for d in found if isinstance(d, dict)]
    if found and not mappings:
        raise BadRecord("not-an-object", f"the file holds a {type(found[0]).__name__}, not a mapping")
    if not found:
        raise BadRecord("no-id", "the file has no document")
    if any(_WORKFLOWS in document for document in mappings):
        raise NotOfFeed("workflow")
    templates = [document for document in mappings if _INFO in document]
    if not templates:
        raise NotOfFeed("not-a-template")
    return templates[0]


def _template(document: dict[str, Value], path: str, release: str) -> Template:
    name, info = document.get("id"), document[_INFO]
    if name is None:
        raise BadRecord("no-id", "the document with an `info` has no `id`")
    if not isinstance(name, str):
        raise _wrong_type("id", name, "a text")
    if not _ID.fullmatch(name.strip()):
        raise BadRecord("bad-id", f"{name!r:.200} does not match {_ID.pattern}")
    if not isinstance(info, dict):
        raise _wrong_type(_INFO, info, "a mapping")
    name, tags = name.strip(), words(info, "tags")
    return Template(
        id=f"{NAME}:{name}",
        feed=NAME,
        release=release,
        name=text(info, "name") or name,
        text=paragraphs(*(text(info, part) for part in ("description", "impact", "remediation"))),
        severity=text(info, "severity").lower(),
        tags=tags,
        techniques=_techniques(tags, mapping(info, "metadata")),
        cves=cves((name, *words(mapping(info, "classification"), "cve-id"))),
        path=path,
    )


def _wrong_type(key: str, value: Value, wanted: str) -> BadRecord:
    return BadRecord("wrong-type", f"`{key}` is a {type(value).__name__}, not {wanted}")


def _techniques(tags: tuple[str, ...], metadata: Fields) -> tuple[str, ...]:
    keys = [key for key in metadata if _ATTACK_KEY.search(key)]
    return techniques((*tags, *(word for key in keys for word in words(metadata, key))))


FEED = FeedSpec(
    name=NAME,
    default_source="https://github.com/projectdiscovery/nuclei-templates.git",
    topics=(TEMPLATES,),
    collection=FileTree(includes=is_template_path, parse=parse_template),
    modules=(__name__, "streams.fetchers.formats.fields", "streams.fetchers.formats.failsafe_yaml"),
    about="vulnerability scan templates",
    teaches=("distilbert-mitre",),
)
