"""Nuclei templates: a git repository or a folder, one template a file, and only files that changed are read.

    collect: folder or commit ──> files in order of path    (hash of content, or git's own blob id)
    parse:   file ──> the first YAML document with an `id` ──> template, by id; and what is rejected

Of several files with one id the first in order of path counts. Skipped are workflows, profiles and helpers,
which are not templates, and everything whose name starts with a dot.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from schemas.errors import BadConfiguration, BadRecord
from schemas.events import Template
from schemas.topics import TEMPLATES
from streams.fetchers.base import limits
from streams.fetchers.base.feed import (
    Batch,
    Feed,
    FeedState,
    KnownFile,
    OnProgress,
    Outcome,
    Rejected,
    Unchanged,
    fitting,
)
from streams.fetchers.formats.failsafe_yaml import Value, documents
from streams.fetchers.sources import git
from streams.fetchers.sources.folder import escapes, read_unlinked, walk
from streams.fetchers.sources.http import shown

NAME = "nuclei-templates"
_SKIPPED_FOLDERS = frozenset(("helpers", "workflows", "profiles"))
_SUFFIXES = (".yaml", ".yml")
_ID = re.compile(r"[A-Za-z0-9][\w.:-]{0,199}", re.ASCII)
_CVE = re.compile(r"CVE-\d{4}-\d{4,19}")
_TECHNIQUE = re.compile(r"(?<![A-Z0-9])T\d{4}(?:\.\d{3})?(?![A-Z0-9])")
_ATTACK_KEY = re.compile(r"mitre|att.?ck|technique", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
DUPLICATE = "duplicate-id"


class File(NamedTuple):
    """A file of a mirror: its path with `/`, the hash of its content, and how to get that.

    `read` raises `BadRecord` where the file must not or can't be read.
    """

    path: str
    oid: str
    read: Callable[[], bytes]


class Parsed(msgspec.Struct, frozen=True):
    """Templates by id and rejects, and what to remember of each file."""

    outcomes: list[Outcome]
    files: dict[str, KnownFile]


# collect


def folder_files(root: Path) -> Iterator[File]:
    """The template files of a folder; a link is never followed, and one that leads out is refused."""
    for path in walk(root):
        if not is_template_path(path):
            continue
        if (root / path).is_symlink():
            yield from _link(path, (root / path).readlink().as_posix())
        else:
            yield _plain(root, path)


def _plain(root: Path, path: str) -> File:
    try:
        data = read_unlinked(root / path, limits.MAX_FILE_BYTES)
    except BadRecord as error:
        return _unusable(path, error)
    return File(path, hashlib.blake2b(data, digest_size=16).hexdigest(), lambda: data)


def git_files(entries: Iterable[git.Entry], read: Callable[[str], bytes]) -> Iterator[File]:
    """The template files of a commit, in order of path.

    Args:
        read: Gives the bytes of a blob.
    """
    for entry in sorted(entries):
        if not is_template_path(entry.path):
            continue
        if entry.is_link and entry.size <= limits.MAX_LINK_BYTES:
            yield from _link(entry.path, read(entry.oid).decode(errors="replace"))
        elif entry.size > limits.MAX_FILE_BYTES:
            detail = f"{entry.size} bytes; the limit is {limits.MAX_FILE_BYTES}"
            yield _unusable(entry.path, BadRecord("too-large", detail))
        elif entry.is_link:
            detail = f"a link of {entry.size} bytes; the limit is {limits.MAX_LINK_BYTES}"
            yield _unusable(entry.path, BadRecord("path-escape", detail))
        else:
            yield File(entry.path, entry.oid, lambda oid=entry.oid: read(oid))  # type: ignore[misc]


def is_template_path(path: str) -> bool:
    """Whether a path of the mirror can be a template.

    >>> is_template_path("http/cves/a.yaml"), is_template_path(".github/ci.yml"), is_template_path("helpers/a.yaml")
    (True, False, False)
    """
    *folders, name = path.split("/")
    hidden = any(part.startswith(".") and part != ".." for part in (*folders, name))
    return name.lower().endswith(_SUFFIXES) and not hidden and _SKIPPED_FOLDERS.isdisjoint(folders)


def _link(path: str, target: str) -> Iterator[File]:
    """A link inside the mirror is nothing: what it points to is there by itself."""
    if escapes(path, target):
        yield _unusable(path, BadRecord("path-escape", f"a link to {target!r:.200} leads out of the mirror"))


def _unusable(path: str, error: BadRecord) -> File:
    def read() -> bytes:
        raise error

    return File(path, hashlib.blake2b(str(error).encode(), digest_size=16).hexdigest(), read)


# parse


def parse(files: Iterable[File], known: Mapping[str, KnownFile], release: str = "") -> Parsed:
    """Templates and rejects of a mirror.

    Args:
        files: In order of path.
        known: What was remembered of each path; a file with the same hash and the same part to play (the
            first of its id or not) is not read again.
        release: The commit.
    """
    outcomes: list[Outcome] = []
    seen: dict[str, KnownFile] = {}
    owners: dict[str, str] = {}
    for file in files:
        before = known.get(file.path)
        if before is not None and before.oid == file.oid and _same_part(before, owners):
            outcome: Outcome = Unchanged(before.id, before.reason)
            now = before
        else:
            outcome, now = _outcome(file, release, owners)
        outcomes.append(outcome)
        if not _UNPRINTABLE.search(file.path):
            seen[file.path] = now
        if not now.reason:
            owners.setdefault(now.id, file.path)
    return Parsed(sorted(outcomes, key=lambda outcome: getattr(outcome, "id", "")), seen)


def _same_part(before: KnownFile, owners: Mapping[str, str]) -> bool:
    if before.reason and before.reason != DUPLICATE:
        return True
    return (before.id in owners) == (before.reason == DUPLICATE)


def _outcome(file: File, release: str, owners: Mapping[str, str]) -> tuple[Outcome, KnownFile]:
    data, name = b"", ""
    label = _UNPRINTABLE.sub("?", file.path)
    try:
        if label != file.path or escapes(file.path):
            raise BadRecord("path-escape", f"{label!r:.200} is not a path inside the mirror")
        data = file.read()
        template = fitting(_template(_document(data), file.path, release))
        name = template.id
        if name in owners:
            raise BadRecord(DUPLICATE, f"{owners[name]} has the id {name} already")
    except BadRecord as error:
        rejected = Rejected(f"{NAME}:{label}", error, data)
        return rejected, KnownFile(file.oid, name, error.reason)
    return template, KnownFile(file.oid, name)


def _document(data: bytes) -> dict[str, Value]:
    """The first document with an id; the others are read too, so that a broken file is seen to be one."""
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
        raise BadRecord("bad-id", f"{name!r:.200} is not like {_ID.pattern}")
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
    """A list of texts, or one text with commas in it; in the order of the file, without repetitions."""
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


# the feed


def read(source: str, memo: FeedState, cache_dir: Path, on_progress: OnProgress) -> Batch:
    """Read the templates from a git address or a folder.

    Raises:
        BadConfiguration: `source` is neither, or git is missing.
        RetryLater: The repository can't be reached.
    """
    if git.is_git_url(source):
        return _read_git(source, memo, cache_dir / "feeds" / NAME, on_progress)
    root = Path(source)
    if not root.is_dir():
        raise BadConfiguration(
            f"{shown(source)!r} is neither a folder nor a git address ({', '.join(git.PROTOCOLS)}): check --source"
        )
    return _batch(folder_files(root), memo, "", on_progress)


def _read_git(url: str, memo: FeedState, mirror: Path, on_progress: OnProgress) -> Batch:
    on_progress("collect", 0, None)
    commit = git.fetch(url, mirror)
    if commit == memo.release:
        return Batch(commit, None, memo)
    with git.blobs(mirror) as blobs:
        return _batch(git_files(git.tree(mirror, commit), blobs.read), memo, commit, on_progress)


def _batch(files: Iterable[File], memo: FeedState, release: str, on_progress: OnProgress) -> Batch:
    parsed = parse(_counted(files, on_progress), memo.files, release)
    return Batch(release, parsed.outcomes, FeedState(release=release, files=parsed.files))


def _counted(files: Iterable[File], on_progress: OnProgress) -> Iterator[File]:
    for count, file in enumerate(files, 1):
        on_progress("parse", count, None)
        yield file


FEED = Feed(NAME, "https://github.com/projectdiscovery/nuclei-templates.git", (TEMPLATES,), read)
