"""Nuclei templates: a git repository or a folder with one template per file.

A file is parsed to its first YAML document with an `id`. Workflows, profiles and helpers are not templates and are
skipped, and so is everything with a name that starts with a dot.
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
from streams.fetchers.sources.file_tree import FileTree, folder_files, parse_files

NAME = "nuclei-templates"
_SKIPPED_FOLDERS = frozenset(("helpers", "workflows", "profiles"))
_SUFFIXES = (".yaml", ".yml")
_ID = re.compile(r"[A-Za-z0-9][\w.:-]{0,199}", re.ASCII)
_CVE = re.compile(r"CVE-\d{4}-\d{4,19}")
_TECHNIQUE = re.compile(r"(?<![A-Z0-9])T\d{4}(?:\.\d{3})?(?![A-Z0-9])")
_ATTACK_KEY = re.compile(r"mitre|att.?ck|technique", re.IGNORECASE)


def is_template_path(path: str) -> bool:
    """Whether a path of the repository can be a template.

    >>> is_template_path("http/cves/a.yaml"), is_template_path(".github/ci.yml"), is_template_path("helpers/a.yaml")
    (True, False, False)
    """
    *folders, name = path.split("/")
    hidden = any(part.startswith(".") and part != ".." for part in (*folders, name))
    return name.lower().endswith(_SUFFIXES) and not hidden and _SKIPPED_FOLDERS.isdisjoint(folders)


def parse_template(data: bytes, path: str, release: str) -> Template:
    """The template in a file.

    Args:
        data: The file, YAML.
        path: Its path, with `/`.
        release: The commit.

    Raises:
        BadRecord: `bad-yaml`, `not-an-object`, `no-id`, `bad-id` or `wrong-type`.
    """
    return _template(_document(data), path, release)


def parse_folder(root: Path) -> Sequence[Outcome]:
    """The templates in a folder and below it, and its rejected files, by id."""
    return parse_files(folder_files(root, is_template_path), {}, parse_template, NAME).outcomes


def _document(data: bytes) -> dict[str, Value]:
    """The first document with an id; the others are read too, so that a broken file is recognised."""
    found = [d for d in documents(data) if d is not None]
    mappings = [d for d in found if isinstance(d, dict)]
    if found and not mappings:
        raise BadRecord("not-an-object", f"the file holds a {type(found[0]).__name__}, not a mapping")
    named = [d for d in mappings if d.get("id") is not None]
    if not named:
        raise BadRecord("no-id", "no document of the file has an `id`")
    return named[0]


def _template(document: dict[str, Value], path: str, release: str) -> Template:
    name = _text(document, "id")
    if not _ID.fullmatch(name):
        raise BadRecord("bad-id", f"{name!r:.200} does not match {_ID.pattern}")
    info = _mapping(document, "info")
    classification = _mapping(info, "classification")
    tags = _words(info, "tags")
    return Template(
        id=f"{NAME}:{name}",
        feed=NAME,
        release=release,
        name=_text(info, "name") or name,
        text="\n\n".join(filter(None, (_text(info, part) for part in ("description", "impact", "remediation")))),
        severity=_text(info, "severity").lower(),
        tags=tags,
        techniques=_techniques(tags, _mapping(info, "metadata")),
        cves=_matches(_CVE, (name, *_words(classification, "cve-id"))),
        path=path,
    )


def _text(mapping: Mapping[str, Value], key: str) -> str:
    value = mapping.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong_type(key, value, "a text")
    return value.strip()


def _mapping(mapping: Mapping[str, Value], key: str) -> Mapping[str, Value]:
    value = mapping.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong_type(key, value, "a mapping")
    return value


def _words(mapping: Mapping[str, Value], key: str) -> tuple[str, ...]:
    """A list of strings, or one string with commas; in the order of the file, without repetitions."""
    value = mapping.get(key)
    values = value if isinstance(value, list) else [] if value is None else [value]
    words: list[str] = []
    for each in values:
        if not isinstance(each, str):
            raise _wrong_type(key, each, "a text")
        words += (word.strip() for word in each.split(","))
    return tuple(dict.fromkeys(filter(None, words)))


def _wrong_type(key: str, value: Value, wanted: str) -> BadRecord:
    return BadRecord("wrong-type", f"`{key}` is a {type(value).__name__}, not {wanted}")


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
