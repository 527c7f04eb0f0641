"""Nuclei templates: a git repository or a folder with one template per file.

A template is the first YAML document of a file that has an `info`; it must have an `id`, too. Workflows, known by
their key `workflows`, and files without `info` (profiles, helpers, rules of other tools) are left out and counted.
What can't be used of a template, such as an empty item of a list or a severity that is no text, is not in the
event.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from schemas.errors import BadRecord
from schemas.events import Template
from schemas.topics import TEMPLATES
from streams.fetchers.base.feed import FeedSpec, Outcome
from streams.fetchers.formats.failsafe_yaml import Value, documents
from streams.fetchers.sources.file_tree import FileTree, NotOfFeed, folder_files, parse_files

NAME = "nuclei-templates"
_INFO, _WORKFLOWS = "info", "workflows"
_SUFFIXES = (".yaml", ".yml")
_ID = re.compile(r"[A-Za-z0-9][\w.:-]{0,199}", re.ASCII)
_CVE = re.compile(r"CVE-\d{4}-\d{4,19}")
_TECHNIQUE = re.compile(r"(?<![A-Z0-9])T\d{4}(?:\.\d{3})?(?![A-Z0-9])")
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
    name, tags = name.strip(), _words(info, "tags")
    return Template(
        id=f"{NAME}:{name}",
        feed=NAME,
        release=release,
        name=_text(info, "name") or name,
        text="\n\n".join(filter(None, (_text(info, part) for part in ("description", "impact", "remediation")))),
        severity=_text(info, "severity").lower(),
        tags=tags,
        techniques=_techniques(tags, _mapping(info, "metadata")),
        cves=_matches(_CVE, (name, *_words(_mapping(info, "classification"), "cve-id"))),
        path=path,
    )


def _wrong_type(key: str, value: Value, wanted: str) -> BadRecord:
    return BadRecord("wrong-type", f"`{key}` is a {type(value).__name__}, not {wanted}")


def _text(mapping: Mapping[str, Value], key: str) -> str:
    """A text; empty if it is missing or something else."""
    value = mapping.get(key)
    return value.strip() if isinstance(value, str) else ""


def _mapping(mapping: Mapping[str, Value], key: str) -> Mapping[str, Value]:
    """A mapping; empty if it is missing or something else."""
    value = mapping.get(key)
    return value if isinstance(value, dict) else {}


def _words(mapping: Mapping[str, Value], key: str) -> tuple[str, ...]:
    """The words of a list of texts, or of one text with commas; in the order of the file, without repetitions."""
    value = mapping.get(key)
    texts = [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]
    words = (word.strip() for text in texts for word in text.split(","))
    return tuple(dict.fromkeys(filter(None, words)))


def _techniques(tags: tuple[str, ...], metadata: Mapping[str, Value]) -> tuple[str, ...]:
    keys = [key for key in metadata if _ATTACK_KEY.search(key)]
    return _matches(_TECHNIQUE, (*tags, *(word for key in keys for word in _words(metadata, key))))


def _matches(pattern: re.Pattern[str], texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({found for text in texts for found in pattern.findall(text.upper())}))


FEED = FeedSpec(
    name=NAME,
    default_source="https://github.com/projectdiscovery/nuclei-templates.git",
    topics=(TEMPLATES,),
    collection=FileTree(includes=is_template_path, parse=parse_template),
    modules=(__name__, "streams.fetchers.formats.failsafe_yaml"),
)
