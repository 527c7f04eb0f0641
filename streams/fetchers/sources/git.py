"""A git repository as a bare mirror: nothing is checked out, so no file can be written outside the mirror.

    git fetch --depth 1 ──> bare mirror ──ls-tree──> entries with their blob ids ──cat-file──> sizes, bytes

No link is created, no hook, filter or submodule of the repository runs, and a path is never opened. A few kilobytes
of tree objects can name each other again and again: entries are counted while they are listed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from schemas.errors import BadConfiguration, BadRecord, Corrupt, RetryLater
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
    "pack.threads=2",
    f"core.bigFileThreshold={limits.MAX_FILE_BYTES}",
)
_MESSAGE_BYTES = 2_000
_READ_BYTES = 64 * 1024
_BATCH = 500
"""Blobs that are asked for at once; the question and the answer fit the buffers of the pipes."""
_USUAL_BRANCHES = tuple(f"refs/heads/{name}" for name in ("main", "master", "trunk", "develop"))
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
    fetching = [
        "-C",
        str(mirror),
        "fetch",
        "--quiet",
        "--depth",
        "1",
        "--no-tags",
        "--no-recurse-submodules",
        "--force",
        "--",
        url,
    ]
    try:
        _git([*fetching, f"HEAD:{ref}"], url)
    except RetryLater as error:
        if "remote ref HEAD" not in str(error):
            raise
        _git([*fetching, f"{_branch_without_head(url, error)}:{ref}"], url)
    return _git(["-C", str(mirror), "rev-parse", "--verify", ref], url).decode().strip()


def is_bare(folder: Path) -> bool:
    """Whether a folder is a repository without a work tree, such as `git clone --mirror` makes."""
    return (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir()


def _branch_without_head(url: str, failure: RetryLater) -> str:
    """The branch to read where HEAD names none: in a mirror, say, whose upstream has renamed its branch.

    Args:
        url: The repository.
        failure: Why HEAD could not be fetched; raised if there is no branch with one of the usual names.
    """
    listed = _git(["ls-remote", "--", url, *_USUAL_BRANCHES], url).decode(errors="replace").splitlines()
    found = {line.partition("\t")[2] for line in listed}
    branch = next((name for name in _USUAL_BRANCHES if name in found), "")
    if not branch:
        raise failure
    return branch


def tree(mirror: Path, commit: str) -> Iterator[Entry]:
    """The files and links of a commit; submodules are skipped.

    Raises:
        BadRecord: `too-many-files`: the commit has over `limits.MAX_TREE_ENTRIES` files, links and folders, or
            their paths together over `limits.MAX_LISTING_BYTES`.
    """
    listing = ["-C", str(mirror), "ls-tree", "-r", "-t", "-z", "--full-tree", commit]
    found: list[tuple[str, str, bool]] = []
    with tempfile.TemporaryFile() as messages, _started(listing, stderr=messages) as process:
        assert process.stdout is not None
        for line in _lines(process.stdout):
            fields, _, path = line.partition(b"\t")
            mode, _, oid = fields.decode().split()
            if mode == _LINK_MODE or mode in _FILE_MODES:
                found.append((path.decode(errors="surrogateescape"), oid, mode == _LINK_MODE))
        process.wait(limits.GIT_TIMEOUT_S)
        _check(process, messages, str(mirror))
    sizes = _sizes(mirror, list(dict.fromkeys(oid for _, oid, _ in found)))
    for path_text, oid, is_link in found:
        yield Entry(path_text, oid, sizes[oid], is_link)


def _sizes(mirror: Path, oids: Sequence[str]) -> dict[str, int]:
    """Size of each blob, bytes."""
    sizes: dict[str, int] = {}
    with _started(["-C", str(mirror), "cat-file", "--batch-check"], stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for start in range(0, len(oids), _BATCH):
            batch = oids[start : start + _BATCH]
            process.stdin.write("".join(f"{oid}\n" for oid in batch).encode())
            process.stdin.flush()
            for oid in batch:
                sizes[oid] = _size_in(process.stdout.readline(), oid)
    return sizes


def _size_in(header: bytes, oid: str) -> int:
    """The size in a reply of `git cat-file`: id, type and size of an object."""
    words = header.split()
    if len(words) != 3:
        raise Corrupt(f"the git mirror has no object {oid}: delete its folder and fetch again")
    return int(words[2])


def _lines(listing: IO[bytes]) -> Iterator[bytes]:
    """The lines of a listing, each of which ends with a zero byte, as far as the limits allow."""
    rest, count, size = bytearray(), 0, 0
    while block := listing.read(_READ_BYTES):
        rest += block
        *lines, last = bytes(rest).split(b"\0") if b"\0" in block else (rest,)
        rest = bytearray(last)
        size, count = size + len(block), count + len(lines)
        for what, found, limit in (
            ("files, links and folders", count, limits.MAX_TREE_ENTRIES),
            ("bytes of paths", size, limits.MAX_LISTING_BYTES),
        ):
            if found > limit:
                raise BadRecord("too-many-files", f"the repository has over {limit} {what}, the limit")
        yield from lines


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
        data = self._replies.read(_size_in(self._replies.readline(), oid))
        self._replies.read(1)  # the newline after it
        return data


@contextlib.contextmanager
def blobs(mirror: Path) -> Iterator[Blobs]:
    """Open a mirror for reading."""
    with _started(["-C", str(mirror), "cat-file", "--batch"], stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Blobs(process.stdin, process.stdout)


def _git(arguments: Sequence[str], source: str) -> bytes:
    """Run a git command that prints little; what it, or a server through it, writes to stderr goes to a file."""
    with tempfile.TemporaryFile() as messages, _started(arguments, stderr=messages) as process:
        try:
            out, _ = process.communicate(timeout=limits.GIT_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            limit_s = limits.GIT_TIMEOUT_S
            raise RetryLater(
                f"git did not finish {without_credentials(source)} in {limit_s:.0f} s: try again"
            ) from error
        _check(process, messages, source)
    return out


def _check(process: subprocess.Popen[bytes], messages: IO[bytes], source: str) -> None:
    """Raise what git said, if it failed."""
    if process.returncode == 0:
        return
    messages.seek(max(0, messages.seek(0, os.SEEK_END) - _MESSAGE_BYTES))
    text = messages.read(_MESSAGE_BYTES).decode(errors="replace")
    message = " ".join(text.replace(source, without_credentials(source)).split())
    raise RetryLater(
        f"git failed on {without_credentials(source)} with exit code {process.returncode}: {message:.500}; "
        "try again, or give a local folder"
    )


@contextlib.contextmanager
def _started(arguments: Sequence[str], stderr: IO[bytes] | int) -> Iterator[subprocess.Popen[bytes]]:
    """A git process in its own session: it can't ask for a password, and its children end with it."""
    options = [word for setting in _SAFE for word in ("-c", setting)]
    try:
        process = subprocess.Popen(
            ["git", *options, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
            env=os.environ | {"LC_ALL": "C"},  # one of its messages is read
        )
    except FileNotFoundError as error:
        raise BadConfiguration("`git` is not on the path: install git, or give a local folder") from error
    with process:
        try:
            _limit(process.pid)
            yield process
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def _limit(pid: int) -> None:
    """Limit what a process, and those that it starts, may write and allocate. Only Linux has `prlimit`."""
    with contextlib.suppress(ImportError, AttributeError, ProcessLookupError):
        import resource

        for kind, limit in (
            (resource.RLIMIT_FSIZE, limits.GIT_FILE_BYTES),
            (resource.RLIMIT_DATA, limits.GIT_MEMORY_BYTES),
        ):
            hard = resource.prlimit(pid, kind)[1]
            resource.prlimit(pid, kind, (limit if hard < 0 else min(limit, hard), hard))
