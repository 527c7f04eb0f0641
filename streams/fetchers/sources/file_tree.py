"""A collection of many files with one event each, from a git repository or a folder; only changed files are parsed.

    folder ──walk──────────────> files in order of path, each with the hash of its content
    git    ──fetch, ls-tree────>     ──known hash?──> unchanged file
                                     └──parse───────> event, or rejected item

No link is followed; one that leads out of the tree is rejected. Of several files with one event id the first in
order of path counts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from schemas.encoding import EncodedEvent, encode_event
from schemas.errors import BadConfiguration, BadRecord
from schemas.events import Event
from streams.fetchers.base import limits
from streams.fetchers.base.feed import (
    Batch,
    FeedState,
    KnownFile,
    OnProgress,
    Outcome,
    UnchangedFile,
    rejected_item,
)
from streams.fetchers.sources import git
from streams.fetchers.sources.folder import leads_out, read_without_links, walk
from streams.fetchers.sources.http import without_credentials

DUPLICATE = "duplicate-id"
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")

ParseFile = Callable[[bytes, str, str], Event]
"""(bytes, path with `/`, release) -> event; pure; raises `BadRecord` if the file can't be used."""


class TreeFile(NamedTuple):
    """A file of a tree.

    Attributes:
        path: Its path, with `/`.
        oid: Hash of its content.
        read: Gives its bytes; raises `BadRecord` if it must not or can't be read.
    """

    path: str
    oid: str
    read: Callable[[], bytes]


class ParsedTree(NamedTuple):
    """The outcomes of a tree by id, and what to remember of each file."""

    outcomes: list[Outcome]
    files: dict[str, KnownFile]


@dataclass(frozen=True)
class FileTree:
    """How a feed that is many files is collected and parsed.

    Attributes:
        includes: Whether the file at a path of the tree belongs to the feed.
        parse: The event of a file.
    """

    includes: Callable[[str], bool]
    parse: ParseFile

    def read(self, feed: str, source: str, state: FeedState, cache_dir: Path, on_progress: OnProgress) -> Batch:
        """Read the files of a git address or a folder; see `Collection.read`.

        Raises:
            BadConfiguration: `source` is neither, or git is not installed.
            RetryLater: The repository can't be reached.
        """
        if git.is_git_url(source):
            return self._read_git(feed, source, state, cache_dir / "feeds" / feed, on_progress)
        root = Path(source)
        if not root.is_dir():
            raise BadConfiguration(
                f"{without_credentials(source)!r} is neither a folder nor a git address "
                f"({', '.join(git.PROTOCOLS)}): check --source"
            )
        return self._batch(feed, folder_files(root, self.includes), state, "", on_progress)

    def _read_git(self, feed: str, url: str, state: FeedState, mirror: Path, on_progress: OnProgress) -> Batch:
        on_progress("collect", 0, None)
        commit = git.fetch(url, mirror)
        if commit == state.release:
            return Batch(commit, None, state)
        with git.blobs(mirror) as blobs:
            files = git_files(git.tree(mirror, commit), self.includes, blobs.read)
            return self._batch(feed, files, state, commit, on_progress)

    def _batch(
        self, feed: str, files: Iterable[TreeFile], state: FeedState, release: str, on_progress: OnProgress
    ) -> Batch:
        counted = _with_progress(files, on_progress)
        outcomes, known = parse_files(counted, state.files, self.parse, feed, release)
        return Batch(release, outcomes, FeedState(release=release, files=known))


# collect


def folder_files(root: Path, includes: Callable[[str], bool]) -> Iterator[TreeFile]:
    """The files of a folder that belong to a feed, in order of path.

    Args:
        root: The folder.
        includes: See `FileTree`.
    """
    for path in walk(root):
        if not includes(path):
            continue
        if (root / path).is_symlink():
            yield from _link(path, (root / path).readlink().as_posix())
        else:
            yield _regular_file(root, path)


def git_files(
    entries: Iterable[git.Entry], includes: Callable[[str], bool], read_blob: Callable[[str], bytes]
) -> Iterator[TreeFile]:
    """The files of a commit that belong to a feed, in order of path.

    Args:
        entries: Of the commit.
        includes: See `FileTree`.
        read_blob: Blob id -> bytes.
    """
    for entry in sorted(entries):
        if not includes(entry.path):
            continue
        if entry.is_link and entry.size <= limits.MAX_LINK_BYTES:
            yield from _link(entry.path, read_blob(entry.oid).decode(errors="replace"))
        elif entry.size > limits.MAX_FILE_BYTES:
            detail = f"{entry.size} bytes; the limit is {limits.MAX_FILE_BYTES}"
            yield _unusable(entry.path, BadRecord("too-large", detail))
        elif entry.is_link:
            detail = f"a link of {entry.size} bytes; the limit is {limits.MAX_LINK_BYTES}"
            yield _unusable(entry.path, BadRecord("path-escape", detail))
        else:
            yield TreeFile(entry.path, entry.oid, _blob_reader(read_blob, entry.oid))


def _regular_file(root: Path, path: str) -> TreeFile:
    try:
        data = read_without_links(root / path, limits.MAX_FILE_BYTES)
    except BadRecord as error:
        return _unusable(path, error)
    return TreeFile(path, hashlib.blake2b(data, digest_size=16).hexdigest(), lambda: data)


def _blob_reader(read_blob: Callable[[str], bytes], oid: str) -> Callable[[], bytes]:
    return lambda: read_blob(oid)


def _link(path: str, target: str) -> Iterator[TreeFile]:
    """A link inside the tree is skipped: what it points to is in the tree itself."""
    if leads_out(path, target):
        yield _unusable(path, BadRecord("path-escape", f"a link to {target!r:.200} leads out of the mirror"))


def _unusable(path: str, error: BadRecord) -> TreeFile:
    def read() -> bytes:
        raise error

    return TreeFile(path, hashlib.blake2b(str(error).encode(), digest_size=16).hexdigest(), read)


def _with_progress(files: Iterable[TreeFile], on_progress: OnProgress) -> Iterator[TreeFile]:
    for count, file in enumerate(files, 1):
        on_progress("parse", count, None)
        yield file


# parse


def parse_files(
    files: Iterable[TreeFile],
    known: Mapping[str, KnownFile],
    parse: ParseFile,
    feed: str,
    release: str = "",
) -> ParsedTree:
    """Events and rejected items of files; a file that is known is not parsed again.

    Args:
        files: In order of path.
        known: Path -> what is remembered of the file. It is parsed again if its hash differs, or if it has become,
            or is no longer, the first file with its id.
        parse: The event of a file.
        feed: Name of the feed.
        release: The commit.
    """
    outcomes: list[Outcome] = []
    seen: dict[str, KnownFile] = {}
    owners: dict[str, str] = {}
    for file in files:
        before = known.get(file.path)
        if before is not None and before.oid == file.oid and _has_same_role(before, owners):
            outcome: Outcome = UnchangedFile(
                before.id, before.reason, f"{feed}:{file.path}" if before.reason else ""
            )
            now = before
        else:
            outcome, now = _parse_file(file, parse, feed, release, owners)
        outcomes.append(outcome)
        if not _UNPRINTABLE.search(file.path):
            seen[file.path] = now
        if not now.reason:
            owners.setdefault(now.id, file.path)
    return ParsedTree(sorted(outcomes, key=_id_of), seen)


def _has_same_role(before: KnownFile, owners: Mapping[str, str]) -> bool:
    """Whether a file is still the first with its id, or still a duplicate."""
    if before.reason and before.reason != DUPLICATE:
        return True
    return (before.id in owners) == (before.reason == DUPLICATE)


def _parse_file(
    file: TreeFile, parse: ParseFile, feed: str, release: str, owners: Mapping[str, str]
) -> tuple[Outcome, KnownFile]:
    data, key = b"", ""
    label = _UNPRINTABLE.sub("?", file.path)
    try:
        if label != file.path or leads_out(file.path):
            raise BadRecord("path-escape", f"{label!r:.200} is not a path inside the mirror")
        data = file.read()
        encoded = encode_event(parse(data, file.path, release))
        key = encoded.event.id
        if key in owners:
            raise BadRecord(DUPLICATE, f"{owners[key]} has the id {key} already")
    except BadRecord as error:
        return rejected_item(f"{feed}:{label}", error, data), KnownFile(file.oid, key, error.reason)
    return encoded, KnownFile(file.oid, key)


def _id_of(outcome: Outcome) -> str:
    """The id to sort by; rejected items come first."""
    if isinstance(outcome, EncodedEvent):
        return outcome.event.id
    return outcome.id if isinstance(outcome, UnchangedFile) else ""
