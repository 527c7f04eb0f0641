"""A git repository as a bare mirror: nothing is checked out, so no file can be written outside the mirror.

    git fetch --depth 1 ──> bare mirror ──ls-tree──> entries with their blob ids ──cat-file──> bytes, on demand

No link is created, no hook, filter or submodule of the repository runs, and a path is never opened.
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
from streams.fetchers.sources.http import without_credentials

PROTOCOLS = ("https", "ssh", "git", "file")
_URL = re.compile(rf"({'|'.join(PROTOCOLS)})://[^\s]+|[A-Za-z0-9_][\w.-]*@[A-Za-z0-9][\w.-]*:[^\s-][^\s]*")
_SAFE = (
    "protocol.allow=never",
    *(f"protocol.{name}.allow=always" for name in PROTOCOLS),
    "core.symlinks=false",
    "core.hooksPath=/dev/null",
    "credential.interactive=false",
    "http.followRedirects=false",
    "gc.autoDetach=false",
)
_LINK_MODE, _FILE_MODES = "120000", ("100644", "100755", "100664")


class Entry(NamedTuple):
    """A file or link of a commit.

    Attributes:
        path: Its path, with `/`.
        oid: Id of its blob; the blob of a link is the target of the link.
        size: Of the blob, bytes.
        is_link: Whether it is a symbolic link.
    """

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
    """Fetch the latest commit of a repository's default branch into a bare mirror.

    Args:
        url: An address for which `is_git_url` holds.
        mirror: Folder of the mirror; created if missing.

    Returns:
        The commit's id.

    Raises:
        BadConfiguration: git is not installed.
        RetryLater: The repository can't be reached; the message has git's error message.
    """
    ref = f"refs/sx9/{hashlib.blake2b(url.encode(), digest_size=8).hexdigest()}"
    if not (mirror / "HEAD").exists():
        mirror.mkdir(parents=True, exist_ok=True)
        _git(["init", "--quiet", "--bare", "--", str(mirror)], url)
    fetching = ["fetch", "--quiet", "--depth", "1", "--no-tags", "--no-recurse-submodules", "--force"]
    _git(["-C", str(mirror), *fetching, "--", url, f"HEAD:{ref}"], url)
    return _git(["-C", str(mirror), "rev-parse", "--verify", ref], url).decode().strip()


def tree(mirror: Path, commit: str) -> Iterator[Entry]:
    """The files and links of a commit; submodules are skipped."""
    listing = _git(["-C", str(mirror), "ls-tree", "-r", "-z", "-l", "--full-tree", commit], str(mirror))
    for line in listing.split(b"\0")[:-1]:
        fields, _, path = line.partition(b"\t")
        mode, _, oid, size = fields.decode().split()
        if mode == _LINK_MODE or mode in _FILE_MODES:
            yield Entry(path.decode(errors="surrogateescape"), oid, int(size), mode == _LINK_MODE)


class Blobs:
    """Contents of a mirror by blob id, through one `git cat-file` process.

    Args:
        requests: Its standard input.
        replies: Its standard output.
    """

    def __init__(self, requests: IO[bytes], replies: IO[bytes]) -> None:
        self._requests = requests
        self._replies = replies

    def read(self, oid: str) -> bytes:
        """The bytes of a blob.

        Raises:
            Corrupt: The mirror does not have it.
        """
        self._requests.write(oid.encode() + b"\n")
        self._requests.flush()
        header = self._replies.readline().split()
        if len(header) != 3:
            raise Corrupt(f"the git mirror has no object {oid}: delete its folder and fetch again")
        data = self._replies.read(int(header[2]))
        self._replies.read(1)  # the newline after it
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
            raise RetryLater(
                f"git did not finish {without_credentials(source)} in {limit_s:.0f} s: try again"
            ) from error
    if process.returncode != 0:
        message = " ".join(err.decode(errors="replace").replace(source, without_credentials(source)).split())
        raise RetryLater(
            f"git failed on {without_credentials(source)} with exit code {process.returncode}: {message:.500}; "
            "try again, or give a local folder"
        )
    return out


@contextlib.contextmanager
def _started(arguments: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A git process in its own session: it can't ask for a password, and its children end with it."""
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
