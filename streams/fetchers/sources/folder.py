"""Files of a local path or folder: regular files only, no link followed, nothing longer than its limit."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import BadConfiguration, BadRecord


def read_file(path: Path, max_bytes: int) -> bytes:
    """The bytes of a file that a person named; links are followed.

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


def read_unlinked(path: Path, max_bytes: int) -> bytes:
    """The bytes of a file found in a mirror; a link is not followed.

    Raises:
        BadRecord: `too-large`, `not-a-file`, or `unreadable`.
    """
    try:
        return _read(path, max_bytes, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        reason = "not-a-file" if error.errno == errno.ELOOP else "unreadable"
        raise BadRecord(reason, f"{path.name}: {error.strerror}") from error


def _read(path: Path, max_bytes: int, flags: int) -> bytes:
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise BadRecord("not-a-file", f"{path.name} is not a regular file")
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise BadRecord("too-large", f"{path.name} has {found.st_size} bytes; the limit is {max_bytes}")
    return data


def walk(root: Path) -> Iterator[str]:
    """Paths below a folder of everything that is not a folder, links to folders included, with `/`, sorted."""
    yield from sorted(_walk(root))


def _walk(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in [*links, *files]:
            yield (Path(folder) / name).relative_to(root).as_posix()


def escapes(path: str, link: str = "") -> bool:
    """Whether a path of a mirror, or the link that lies there, leads out of the mirror.

    >>> escapes("http/a.yaml"), escapes("../a.yaml"), escapes("http/a.yaml", "../../etc/passwd")
    (False, True, True)
    """
    reached = posixpath.normpath(posixpath.join(posixpath.dirname(path), link) if link else path)
    return reached.startswith("/") or reached.split("/")[0] == ".."
