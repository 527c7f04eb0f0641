"""A collection of many files with some events each, from git or a folder; only changed files are parsed.

    folder ──walk──────────────> files in order of path, each with the hash of its content
    git    ──fetch, ls-tree────>     ──known hash?──> unchanged file
                                     └──parse───────> events, or rejected item

No link is followed; one that leads out of the tree is rejected. Files whose path has a hidden part are left out and
counted, and so are links inside the tree. Of several files with one event id the first in order of path counts, and
only the first of several names of one content is read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from schemas.encoding import EncodedEvent, encode_event
from schemas.errors import BadConfiguration, BadRecord, Sx9Error
from schemas.events import Event
from schemas.limits import MAX_PATH_CHARS
from streams.fetchers.base import limits
from streams.fetchers.base.feed import (
    Batch,
    FeedState,
    KnownFile,
    LeftOut,
    OnProgress,
    Outcome,
    UnchangedFile,
    rejected_item,
    unusable_source,
)
from streams.fetchers.sources import git
from streams.fetchers.sources.folder import leads_out, read_without_links, walk
from streams.fetchers.sources.http import without_credentials

log = logging.getLogger(__name__)

DUPLICATE = "duplicate-id"
HIDDEN, LINK = "hidden", "link"
_LABEL_CHARS = 200
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")

ParseFile = Callable[[bytes, str, str], Event | Sequence[Event]]
"""(bytes, path with `/`, release) -> event, or events; pure; raises `BadRecord` if the file can't be used,
`NotOfFeed` if it is something else. Whether a file can be used depends on its bytes only."""


class NotOfFeed(Exception):
    """A file does not belong to the feed: it is left out, and counted.

    Args:
        reason: A short word from a small set, such as `workflow`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TreeFile(NamedTuple):
    """A file of a tree.

    Attributes:
        path: Its path, with `/`.
        oid: Hash of its content.
        read: Gives its bytes; raises `BadRecord` if it must not or can't be read, `NotOfFeed` if it is left out.
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
        parse: The events of a file; all of them are for the feed's first topic.
        is_named_by_path: Whether the name of a file is part of what it says: files with the same content are
            then no duplicates.
    """

    includes: Callable[[str], bool]
    parse: ParseFile
    is_named_by_path: bool = False

    def read(self, feed: str, source: str, state: FeedState, cache_dir: Path, on_progress: OnProgress) -> Batch:
        """Read the files of a git address or a folder; see `Collection.read`.

        One with too many files, or too many bytes in them, can't be used as a whole.

        Raises:
            BadConfiguration: `source` is neither, or git is not installed.
            RetryLater: The repository can't be reached.
        """
        try:
            return self._read(feed, source, state, cache_dir / "feeds" / feed, on_progress)
        except BadRecord as error:
            return unusable_source(f"{feed}:{without_credentials(source)}", error, b"")

    def _read(self, feed: str, source: str, state: FeedState, mirror: Path, on_progress: OnProgress) -> Batch:
        if git.is_git_url(source):
            return self._read_git(feed, source, state, mirror, on_progress)
        root = Path(source)
        if git.is_bare(root):
            return self._read_git(feed, root.absolute().as_uri(), state, mirror, on_progress)
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
            return dataclasses.replace(self._batch(feed, files, state, commit, on_progress), is_complete=True)

    def _batch(
        self, feed: str, files: Iterable[TreeFile], state: FeedState, release: str, on_progress: OnProgress
    ) -> Batch:
        counted = _with_progress(files, on_progress)
        outcomes, known = parse_files(
            counted, state.files, self.parse, feed, release, is_named_by_path=self.is_named_by_path
        )
        now = FeedState(release=release, files=known)
        if state.files and state.files == known and all(type(outcome) is UnchangedFile for outcome in outcomes):
            return Batch(release, None, now)
        gone = _ids(state.files) - _ids(known)
        return Batch(release, outcomes, now, gone=frozenset(gone))


def files_below(folder: str, suffix: str) -> Callable[[str], bool]:
    """Tells whether a file with a suffix is in a folder of a repository, which may itself be in a folder.

    >>> is_library = files_below("yml", ".yml")
    >>> is_library("yml/microsoft/winhttp.yml"), is_library("HijackLibs/yml/a.yml"), is_library(".yamllint.yml")
    (True, True, False)
    """

    def includes(path: str) -> bool:
        return path.endswith(suffix) and f"/{folder}/" in f"/{path}"

    return includes


# collect


def folder_files(root: Path, includes: Callable[[str], bool]) -> Iterator[TreeFile]:
    """The files of a folder that belong to a feed, in order of path.

    Args:
        root: The folder.
        includes: See `FileTree`.

    Raises:
        BadRecord: `too-many-files`: see `walk`. `too-large`: they have over `limits.MAX_TREE_BYTES` together.
    """
    found = [(path, _status(f"{root}/{path}")) for path in walk(root) if includes(path)]
    _check_total(sum(status.st_size for _, status in found if status and status.st_size <= limits.MAX_FILE_BYTES))
    for path, status in found:
        if _is_hidden(path):
            yield _left_out(path, HIDDEN)
        elif status and stat.S_ISLNK(status.st_mode):
            yield _link(path, (root / path).readlink().as_posix())
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

    Raises:
        BadRecord: `too-large`: their different contents have over `limits.MAX_TREE_BYTES` together.
    """
    found = sorted(entry for entry in entries if includes(entry.path))
    sizes = {entry.oid: entry.size for entry in found if entry.size <= limits.MAX_FILE_BYTES}
    _check_total(sum(sizes.values()))
    for entry in found:
        if _is_hidden(entry.path):
            yield _left_out(entry.path, HIDDEN)
        elif entry.is_link and entry.size <= limits.MAX_LINK_BYTES:
            yield _link(entry.path, read_blob(entry.oid).decode(errors="replace"))
        elif entry.size > limits.MAX_FILE_BYTES:
            detail = f"{entry.size} bytes; the limit is {limits.MAX_FILE_BYTES}"
            yield _unusable(entry.path, BadRecord("too-large", detail))
        elif entry.is_link:
            detail = f"a link of {entry.size} bytes; the limit is {limits.MAX_LINK_BYTES}"
            yield _unusable(entry.path, BadRecord("path-escape", detail))
        else:
            yield TreeFile(entry.path, entry.oid, _blob_reader(read_blob, entry.oid))


def _check_total(size: int) -> None:
    if size > limits.MAX_TREE_BYTES:
        raise BadRecord("too-large", f"the files have {size} bytes together; the limit is {limits.MAX_TREE_BYTES}")


def _status(path: str) -> os.stat_result | None:
    """What the system says of a file or link; None if it is gone."""
    try:
        return os.lstat(path)
    except OSError:
        return None


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") and part != ".." for part in path.split("/"))


def _regular_file(root: Path, path: str) -> TreeFile:
    try:
        data = read_without_links(f"{root}/{path}", limits.MAX_FILE_BYTES)
    except BadRecord as error:
        return _unusable(path, error)
    return TreeFile(path, hashlib.blake2b(data, digest_size=16).hexdigest(), lambda: data)


def _blob_reader(read_blob: Callable[[str], bytes], oid: str) -> Callable[[], bytes]:
    return lambda: read_blob(oid)


def _link(path: str, target: str) -> TreeFile:
    """A link inside the tree is left out: what it points to is in the tree itself."""
    if leads_out(path, target):
        return _unusable(path, BadRecord("path-escape", f"a link to {target!r:.200} leads out of the mirror"))
    return _left_out(path, LINK)


def _left_out(path: str, reason: str) -> TreeFile:
    return _without_content(path, NotOfFeed(reason))


def _unusable(path: str, error: BadRecord) -> TreeFile:
    return _without_content(path, error)


def _without_content(path: str, error: BadRecord | NotOfFeed) -> TreeFile:
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
    *,
    is_named_by_path: bool = False,
) -> ParsedTree:
    """Events, rejected and left-out items of files; a file that is known is not parsed again.

    Args:
        files: In order of path.
        known: Path -> what is remembered of the file. It is parsed again if its hash differs, or if it has become,
            or is no longer, the first file with one of its ids.
        parse: The events of a file.
        feed: Name of the feed.
        release: The commit.
        is_named_by_path: See `FileTree`.
    """
    outcomes: list[Outcome] = []
    seen: dict[str, KnownFile] = {}
    owners: dict[str, str] = {}
    first_of: dict[str, tuple[str, KnownFile]] = {}
    for file in files:
        origin, before = f"{feed}:{_label(file.path)}", known.get(file.path)
        if (error := _bad_path(file.path)) is not None:
            outcomes.append(rejected_item(origin, error, b""))
            continue
        if before is not None and before.oid == file.oid and _has_same_role(before, owners):
            now = before
            outcomes += _unchanged(before, origin)
        elif file.oid in first_of:
            found, now = _repeated(origin, *first_of[file.oid])
            outcomes += found
        else:
            found, now = _parse_file(file, parse, origin, release, owners)
            outcomes += found
        seen[file.path] = now
        if not is_named_by_path:
            first_of.setdefault(file.oid, (file.path, now))
        owners.update(dict.fromkeys(now.ids, file.path))
    return ParsedTree(sorted(outcomes, key=_id_of), seen)


def _label(path: str) -> str:
    """A path for records and messages."""
    printable = _UNPRINTABLE.sub("?", path)
    if len(printable) <= MAX_PATH_CHARS:
        return printable
    digest = hashlib.blake2b(path.encode(errors="replace"), digest_size=8).hexdigest()
    return f"{printable[:_LABEL_CHARS]}...{digest}"


def _bad_path(path: str) -> BadRecord | None:
    if len(path) > MAX_PATH_CHARS:
        return BadRecord("path-too-long", f"the path has {len(path)} characters; the limit is {MAX_PATH_CHARS}")
    if _UNPRINTABLE.search(path) or leads_out(path):
        return BadRecord("path-escape", f"{_label(path)!r:.200} is not a path inside the mirror")
    return None


def _ids(files: Mapping[str, KnownFile]) -> set[str]:
    return {key for file in files.values() for key in (*file.ids, *file.duplicates)}


def _has_same_role(before: KnownFile, owners: Mapping[str, str]) -> bool:
    """Whether a file is still the first with its ids, and its duplicates are still duplicates."""
    is_first = not any(key in owners for key in before.ids)
    return is_first and all(key in owners or key in before.ids for key in before.duplicates)


def _unchanged(before: KnownFile, origin: str) -> Iterator[UnchangedFile]:
    if before.reason:
        yield UnchangedFile("", before.reason, origin)
    for key in before.ids:
        yield UnchangedFile(key)
    for key in before.duplicates:
        yield UnchangedFile(key, DUPLICATE, origin)


def _repeated(origin: str, first_path: str, first: KnownFile) -> tuple[list[Outcome], KnownFile]:
    """The outcomes of another name of a content that was read before: duplicates, or counted with the first."""
    if first.reason:
        return [LeftOut(origin, first.reason)], first
    ids = (*first.ids, *first.duplicates)
    error = BadRecord(DUPLICATE, f"{first_path} has the same content")
    return [rejected_item(origin, error, b"") for _ in ids], KnownFile(first.oid, (), ids)


def _parse_file(
    file: TreeFile, parse: ParseFile, origin: str, release: str, owners: Mapping[str, str]
) -> tuple[list[Outcome], KnownFile]:
    data = b""
    try:
        data = file.read()
        found = parse(data, file.path, release)
        events = [encode_event(event) for event in (found if isinstance(found, Sequence) else (found,))]
    except NotOfFeed as other:
        return [LeftOut(origin, other.reason)], KnownFile(file.oid, reason=other.reason)
    except BadRecord as error:
        return [rejected_item(origin, error, data)], KnownFile(file.oid, reason=error.reason)
    except (Sx9Error, OSError, MemoryError):
        raise
    except Exception as error:  # one file's fault is that file's letter, whatever is raised in reading it
        log.exception("%s: not foreseen", origin)
        detail = f"{type(error).__name__}: {error!s:.500}; this is a fault of the fetcher: report it"
        bad = BadRecord("not-foreseen", detail)
        return [rejected_item(origin, bad, data)], KnownFile(file.oid, reason=bad.reason)
    return _first_of_each_id(file, events, data, origin, owners)


def _first_of_each_id(
    file: TreeFile, events: Iterable[EncodedEvent], data: bytes, origin: str, owners: Mapping[str, str]
) -> tuple[list[Outcome], KnownFile]:
    """The events with ids that nothing before them had; the others are duplicates."""
    outcomes: list[Outcome] = []
    ids: dict[str, None] = {}
    duplicates: dict[str, None] = {}
    for encoded in events:
        key = encoded.event.id
        owner = file.path if key in ids else owners.get(key)
        if owner is None:
            ids[key] = None
            outcomes.append(encoded)
        else:
            duplicates[key] = None
            error = BadRecord(DUPLICATE, f"{owner} has the id {key} already")
            outcomes.append(rejected_item(origin, error, data))
    return outcomes, KnownFile(file.oid, tuple(ids), tuple(duplicates))


def _id_of(outcome: Outcome) -> str:
    """The id to sort by; rejected items come first."""
    if isinstance(outcome, EncodedEvent):
        return outcome.event.id
    return outcome.id if isinstance(outcome, UnchangedFile) else ""
