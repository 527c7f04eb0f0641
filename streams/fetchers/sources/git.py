"""A git repository as a mirror without a working tree: nothing is checked out, so nothing can escape from it.

    git fetch --depth 1 ──> bare mirror ──ls-tree──> entries with their blob ids ──cat-file──> bytes, on demand

No link is ever made, no hook, filter or submodule of the repository runs, and a path is only a name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from schemas.errors import BadConfiguration, Corrupt, RetryLater
from streams.fetchers.base import limits
from streams.fetchers.sources.http import shown

PROTOCOLS = ("https", "ssh", "git", "file")
_URL = re.compile(rf"({'|'.join(PROTOCOLS)})://[^\s]+|[A-Za-z0-9_][\w.-]*@[A-Za-z0-9][\w.-]*:[^\s-][^\s]*")
_SAFE = (
    "protocol.allow=never",
    *(f"protocol.{name}.allow=always" for name in PROTOCOLS),
    "core.symlinks=false",
    "core.hooksPath=/dev/null",
    "credential.interactive=false",
    "gc.autoDetach=false",
)
_LINK_MODE, _FILE_MODES = "120000", ("100644", "100755", "100664")


class Entry(NamedTuple):
    """One path of a commit: `size` in bytes; of a link, the bytes are where it points to."""

    path: str
    oid: str
    size: int
    is_link: bool


def is_git_url(source: str) -> bool:
    """Whether a source is a git address with an allowed protocol.

    >>> is_git_url("https://github.com/a/b.git"), is_git_url("--upload-pack=x"), is_git_url("ext::sh -c x")
    (True, False, False)
    """
    return _URL.fullmatch(source) is not None


def fetch(url: str, mirror: Path) -> str:
    """Bring the newest commit of a repository's default branch into a bare mirror.

    Args:
        url: An address for which `is_git_url` holds.
        mirror: Folder of the mirror; made if it isn't there.

    Returns:
        The commit's id.

    Raises:
        BadConfiguration: git is not installed.
        RetryLater: The repository can't be reached; git's own words are in the message.
    """
    ref = f"refs/sx9/{hashlib.blake2b(url.encode(), digest_size=8).hexdigest()}"
    if not (mirror / "HEAD").exists():
        mirror.mkdir(parents=True, exist_ok=True)
        _git(["init", "--quiet", "--bare", "--", str(mirror)], url)
    fetching = ["fetch", "--quiet", "--depth", "1", "--no-tags", "--no-recurse-submodules", "--force"]
    _git(["-C", str(mirror), *fetching, "--", url, f"HEAD:{ref}"], url)
    return _git(["-C", str(mirror), "rev-parse", "--verify", ref], url).decode().strip()


def tree(mirror: Path, commit: str) -> Iterator[Entry]:
    """Files and links of a commit; submodules are passed over."""
    listing = _git(["-C", str(mirror), "ls-tree", "-r", "-z", "-l", "--full-tree", commit], str(mirror))
    for line in listing.split(b"\0")[:-1]:
        about, _, path = line.partition(b"\t")
        mode, _, oid, size = about.decode().split()
        if mode == _LINK_MODE or mode in _FILE_MODES:
            yield Entry(path.decode(errors="surrogateescape"), oid, int(size), mode == _LINK_MODE)


class Blobs:
    """Contents of a mirror by blob id, through one `git cat-file` process."""

    def __init__(self, asked: IO[bytes], answered: IO[bytes]) -> None:
        self._asked = asked
        self._answered = answered

    def read(self, oid: str) -> bytes:
        """The bytes of a blob.

        Raises:
            Corrupt: The mirror doesn't have it.
        """
        self._asked.write(oid.encode() + b"\n")
        self._asked.flush()
        header = self._answered.readline().split()
        if len(header) != 3:
            raise Corrupt(f"the git mirror has no object {oid}: delete its folder and fetch again")
        data = self._answered.read(int(header[2]))
        self._answered.read(1)  # the newline after it
        return data


@contextlib.contextmanager
def blobs(mirror: Path) -> Iterator[Blobs]:
    """Open a mirror for reading."""
    with _started(["-C", str(mirror), "cat-file", "--batch"]) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Blobs(process.stdin, process.stdout)


def _git(arguments: Sequence[str], source: str) -> bytes:
    with _started(arguments) as process:
        try:
            out, err = process.communicate(timeout=limits.GIT_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            limit_s = limits.GIT_TIMEOUT_S
            raise RetryLater(f"git did not finish {shown(source)} in {limit_s:.0f} s: try again") from error
    if process.returncode != 0:
        said = " ".join(err.decode(errors="replace").replace(source, shown(source)).split())
        raise RetryLater(
            f"git failed on {shown(source)} with exit code {process.returncode}: {said:.500}; "
            "try again, or give a local folder"
        )
    return out


@contextlib.contextmanager
def _started(arguments: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A git process in a session of its own: without a terminal it can't ask, and its children end with it."""
    options = [word for setting in _SAFE for word in ("-c", setting)]
    try:
        process = subprocess.Popen(
            ["git", *options, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise BadConfiguration("`git` is not on the path: install git, or give a local folder") from error
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
