"""Downloads the jars of the local Kafka and Neo4j into the user's cache folder, and checks them.

    kafka.lock ──> missing or damaged? ──jgo──> partial file ──sha256 equal?──> renamed into the cache

Every jar must have the sha256 of the locked list, whether it was just downloaded or was in the cache.
Only one process downloads a list at a time; others wait for it and then find the files in the cache.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import Progress

import deploy.local
from schemas.errors import BadConfiguration, RetryLater
from streams.local.machine import check_disk, make_folder
from transport.files import lock, sha256_of

log = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 900.0
"""Longest wait for another process that downloads the same list, seconds."""

LISTS = ("kafka", "neo4j")
THREADS = 8
ATTEMPTS = 3
TIMEOUT_S = 15
"""Longest wait for an answer of the repository, seconds."""
CACHE_FREE_MB = 300
"""Free disk space that a download needs, MB: the jars of both lists have 200 MB."""


class Jar(NamedTuple):
    """One line of a lock file; `classifier` is empty for the main jar of a version."""

    group: str
    artifact: str
    version: str
    classifier: str
    sha256: str

    @property
    def path(self) -> Path:
        """Path of the file in a Maven repository, relative to its root."""
        suffix = f"-{self.classifier}" if self.classifier else ""
        name = f"{self.artifact}-{self.version}{suffix}.jar"
        return Path(*self.group.split("."), self.artifact, self.version, name)


def lock_file(name: str) -> Path:
    """The lock file of one of `LISTS`."""
    return Path(deploy.local.__path__[0]) / f"{name}.lock"


def read_lock(path: Path) -> list[Jar]:
    """The jars of a lock file.

    >>> [jar.artifact for jar in read_lock(lock_file("kafka")) if jar.group == "org.apache.kafka"][:2]
    ['kafka-clients', 'kafka-coordinator-common']
    """
    lines = (line.split() for line in path.read_text().splitlines() if not line.startswith("#"))
    return [Jar(g, a, v, "" if c == "-" else c, sha256) for g, a, v, c, sha256 in lines]


def write_lock(path: Path, jars: Sequence[Jar]) -> None:
    """Write a lock file, one jar per line; `-` stands for no classifier."""
    lines = [" ".join(field or "-" for field in jar) for jar in jars]
    path.write_text("\n".join(["# group artifact version classifier sha256; made by `make lock`", *lines, ""]))


def fetch(
    name: str,
    jars: Sequence[Jar],
    folder: Path,
    repository: str | None,
    progress: Progress | None,
    cancelled: threading.Event,
) -> list[Path]:
    """Provide all jars of a list, downloading those that are missing from the cache.

    Args:
        name: Name of the list, for messages: "kafka".
        jars: The locked list.
        folder: The cache; other processes may use it at the same time.
        repository: Address of the Maven repository; None: the user's mirror or Maven Central.
        progress: Where the download is shown; None: a display of its own on stderr.
        cancelled: When set, a download ends with `RetryLater`.

    Returns:
        The files in the order of the list, each with the right sha256.

    Raises:
        RetryLater: The repository doesn't answer or lacks a jar, or the download was cancelled.
        BadConfiguration: A downloaded jar has another sha256 (it is deleted), or the folder is full or can't be
            written to.
    """
    if _missing(jars, folder):
        make_folder(folder, "SX9_CACHE_DIR")
        with lock(
            folder / f".{name}.lock",
            f"downloading the jars of {name}",
            timeout_s=LOCK_TIMEOUT_S,
            cancel_check=cancelled.is_set,
        ):
            missing = _missing(jars, folder)  # another process may have downloaded some while we waited
            if missing:
                check_disk(folder, CACHE_FREE_MB, "SX9_CACHE_DIR")
                _download(name, missing, folder, repository, progress, cancelled)
    return [folder / jar.path for jar in jars]


def _missing(jars: Sequence[Jar], folder: Path) -> list[Jar]:
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda jar: _is_valid(jar, folder / jar.path), jars))
    return [jar for jar, is_valid in zip(jars, found, strict=True) if not is_valid]


def _is_valid(jar: Jar, path: Path) -> bool:
    """Whether the file exists with the right sha256; a file with another one is deleted."""
    try:
        found = sha256_of(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    if found == jar.sha256:
        return True
    log.warning("%s has sha256 %s instead of %s: deleted, to be downloaded again", path, found, jar.sha256)
    path.unlink(missing_ok=True)
    return False


def _download(
    name: str,
    jars: Sequence[Jar],
    folder: Path,
    repository: str | None,
    progress: Progress | None,
    cancelled: threading.Event,
) -> None:
    from streams.local.maven_repository import repositories  # imports jgo, which takes half a second

    sources = repositories(repository)
    partial = folder / f".{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed: we hold the lock
    partial.mkdir(parents=True)
    console = Console(stderr=True)
    bar = progress or Progress(console=console, disable=not console.is_terminal)
    task = bar.add_task(f"jars of {name}", total=len(jars))

    def download(jar: Jar) -> None:
        if not cancelled.is_set():
            _download_jar(jar, folder, partial, sources, cancelled)
            bar.advance(task)

    try:
        with bar if progress is None else nullcontext(), ThreadPoolExecutor(THREADS) as pool:
            _run_all(pool, download, jars)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if cancelled.is_set():
        raise RetryLater(f"the download of the jars of {name} was stopped; the next start continues it")


def _run_all(pool: ThreadPoolExecutor, download: Callable[[Jar], None], jars: Sequence[Jar]) -> None:
    """Download all jars; the first error cancels those that have not started."""
    try:
        for _ in pool.map(download, jars):
            pass
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _download_jar(
    jar: Jar, folder: Path, partial: Path, sources: dict[str, str], cancelled: threading.Event
) -> None:
    """Download one jar, check it, and rename it into the cache."""
    for attempt in range(1, ATTEMPTS + 1):
        with tempfile.TemporaryDirectory(dir=partial) as work:
            try:
                fetched = _resolve(jar, Path(work), sources)
            except RetryLater:
                if attempt == ATTEMPTS or cancelled.is_set():
                    raise
                continue
            found = sha256_of(fetched)
            if found != jar.sha256:
                raise BadConfiguration(_mismatch(jar, found, sources))
            (folder / jar.path).parent.mkdir(parents=True, exist_ok=True)
            fetched.replace(folder / jar.path)
            return


def _mismatch(jar: Jar, found: str, sources: dict[str, str]) -> str:
    return (
        f"{jar.path.name} from {_named(sources)} has sha256 {found}, the locked list says {jar.sha256}: the file "
        "was deleted. Try again; if the error remains, the repository does not deliver what Maven Central does: "
        "set SX9_MAVEN_REPOSITORY to one you trust"
    )


def _resolve(jar: Jar, work: Path, sources: dict[str, str]) -> Path:
    """Let jgo download one jar into an empty folder; its errors are mapped to ours."""
    import requests
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=work, remote_repos=sources, timeout=TIMEOUT_S)
    artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact(jar.classifier)
    try:
        return artifact.resolve()
    except requests.RequestException as error:
        raise RetryLater(
            f"{jar.path.name} is missing and {_named(sources)} does not answer ({error}): connect to the network "
            "once, or set SX9_MAVEN_REPOSITORY to a mirror, or HTTPS_PROXY to your proxy"
        ) from error
    except RuntimeError as error:
        raise RetryLater(
            f"{jar.path.name} is missing and {_named(sources)} does not deliver it: set SX9_MAVEN_REPOSITORY to "
            "a complete mirror of Maven Central"
        ) from error
    except OSError as error:
        raise BadConfiguration(
            f"can't write {jar.path.name} under {work.parent.parent} ({error.strerror}): free some space, or set "
            "SX9_CACHE_DIR to a folder you can write to"
        ) from error


def _named(sources: dict[str, str]) -> str:
    from streams.local.maven_repository import without_login

    return ", ".join(without_login(url) for url in sources.values())
