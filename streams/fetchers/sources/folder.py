"""Reads local files and folders: regular files only, within a size limit; links in a folder are not followed."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import BadConfiguration, BadRecord
from streams.fetchers.base import limits


def read_file(path: Path, max_bytes: int) -> bytes:
    """The bytes of a file that the user named; links are followed.

    Args:
        path: The file.
        max_bytes: Its size, at most.

    Raises:
        BadConfiguration: There is no such file, or it can't be read.
        BadRecord: `too-large`, or `not-a-file`.
    """
    try:
        return _read(path, max_bytes, os.O_RDONLY)
    except OSError as error:
        raise BadConfiguration(
            f"can't read {path}: {error.strerror}; give the path of a file or folder, or a URL"
        ) from error


def read_pages(path: Path) -> list[bytes]:
    """The bytes of a file, or of each `*.json` in a folder: pages, as an API answers them.

    Raises:
        BadConfiguration: There are none, or one can't be read.
        BadRecord: `too-large`, or `not-a-file`.
    """
    paths = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not paths:
        raise BadConfiguration(f"{path} has no *.json: give a folder with pages of the API, or a URL")
    return [read_file(each, limits.MAX_RESOURCE_BYTES) for each in paths]


def read_without_links(path: Path | str, max_bytes: int) -> bytes:
    """The bytes of a file found in a folder; a link is not followed.

    Args:
        path: The file.
        max_bytes: Its size, at most.

    Raises:
        BadRecord: `too-large`, `not-a-file`, or `unreadable`.
    """
    try:
        return _read(path, max_bytes, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        reason = "not-a-file" if error.errno == errno.ELOOP else "unreadable"
        raise BadRecord(reason, f"{Path(path).name}: {error.strerror}") from error


def _read(path: Path | str, max_bytes: int, flags: int) -> bytes:
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise BadRecord("not-a-file", f"{Path(path).name} is not a regular file")
        data = file.read(min(found.st_size, max_bytes) + 1)  # so many bytes are reserved, however few come
        if len(data) > found.st_size:  # it has grown since
            data += file.read(max_bytes + 1 - len(data))
    if len(data) > max_bytes:
        raise BadRecord("too-large", f"{Path(path).name} has {found.st_size} bytes; the limit is {max_bytes}")
    return data


def walk(root: Path) -> Iterator[str]:
    """The sorted relative paths, with `/`, of all files and links below a folder, links to folders included.

    Raises:
        BadRecord: `too-many-files`: there are over `limits.MAX_TREE_ENTRIES` files, links and folders;
            `unreadable`: a folder can't be read, so that its files would seem to be gone.
    """
    yield from sorted(_walk(root))


def _walk(root: Path) -> Iterator[str]:
    count = 0
    for folder, folders, files in os.walk(root, onerror=_refuse):
        count += len(folders) + len(files)
        if count > limits.MAX_TREE_ENTRIES:
            limit = f"{limits.MAX_TREE_ENTRIES} files, links and folders, the limit"
            raise BadRecord("too-many-files", f"{root} has over {limit}")
        inside = Path(folder).relative_to(root).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        links = [name for name in folders if Path(folder, name).is_symlink()]
        yield from (f"{prefix}{name}" for name in [*links, *files])


def _refuse(error: OSError) -> None:
    raise BadRecord("unreadable", f"{error.filename}: {error.strerror}: its files would seem to be gone") from error


def leads_out(path: str, link: str = "") -> bool:
    """Whether a path of a file tree, or the link at that path, leads out of the tree.

    Args:
        path: Relative to the root of the tree, with `/`.
        link: The target of the link at `path`; empty: `path` is not a link.

    >>> leads_out("http/a.yaml"), leads_out("../a.yaml"), leads_out("http/a.yaml", "../../etc/passwd")
    (False, True, True)
    """
    reached = posixpath.normpath(posixpath.join(posixpath.dirname(path), link) if link else path)
    return reached.startswith("/") or reached.split("/")[0] == ".."
