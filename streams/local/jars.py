"""The jars of the local Kafka and Neo4j: a locked list in, files in the user's cache folder out.

    kafka.lock ──> missing or damaged? ──jgo──> partial file ──sha256 equal?──> renamed into the cache

Nothing is used that doesn't match its sha256 in the list, whether it was just fetched or lay in the cache.
One process fetches a list at a time; a second one waits for it and finds the files there.
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
"""Longest wait for another process that downloads or starts the same."""

LISTS = ("kafka", "neo4j")
THREADS = 8
ATTEMPTS = 3
TIMEOUT_S = 15
"""Longest silence of the repository."""
CACHE_FREE_MB = 300
"""Room for the jars of both lists (200 MB) and for those under way."""


class Jar(NamedTuple):
    """One line of a lock file; `classifier` is empty for the main jar of a version."""

    group: str
    artifact: str
    version: str
    classifier: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where a Maven repository keeps the file, from its root."""
        suffix = f"-{self.classifier}" if self.classifier else ""
        name = f"{self.artifact}-{self.version}{suffix}.jar"
        return Path(*self.group.split("."), self.artifact, self.version, name)


def lock_file(name: str) -> Path:
    """The lock file of a list, one of `LISTS`."""
    return Path(deploy.local.__path__[0]) / f"{name}.lock"


def read_lock(path: Path) -> list[Jar]:
    """The jars of a lock file.

    >>> [jar.artifact for jar in read_lock(lock_file("kafka")) if jar.group == "org.apache.kafka"][:2]
    ['kafka-clients', 'kafka-coordinator-common']
    """
    lines = (line.split() for line in path.read_text().splitlines() if not line.startswith("#"))
    return [Jar(g, a, v, "" if c == "-" else c, sha256) for g, a, v, c, sha256 in lines]


def write_lock(path: Path, jars: Sequence[Jar]) -> None:
    """Write a lock file, one jar a line; `-` stands for no classifier."""
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
    """Have every jar of a list in the folder, fetching what is missing.

    Args:
        name: What the jars are for, in messages: "kafka".
        jars: The locked list.
        folder: The cache; other processes may be using and filling it.
        repository: Address of the Maven repository; None for the user's mirror or Maven Central.
        progress: Where the download is shown; None for one of its own on stderr.
        cancelled: Ends a download.

    Returns:
        The files, in the order of the list, each with the right sha256.

    Raises:
        RetryLater: The repository doesn't answer or lacks a jar, or the download was cancelled.
        BadConfiguration: A fetched jar has another sha256 (it is deleted), or there is no room or right to write.
    """
    if _missing(jars, folder):
        make_folder(folder, "SX9_CACHE_DIR")
        with lock(
            folder / f".{name}.lock",
            f"downloading the jars of {name}",
            timeout_s=LOCK_TIMEOUT_S,
            cancelled=cancelled,
        ):
            missing = _missing(jars, folder)  # what the process before us has not brought
            if missing:
                check_disk(folder, CACHE_FREE_MB, "SX9_CACHE_DIR")
                _download(name, missing, folder, repository, progress, cancelled)
    return [folder / jar.path for jar in jars]


def _missing(jars: Sequence[Jar], folder: Path) -> list[Jar]:
    with ThreadPoolExecutor(THREADS) as pool:
        good = list(pool.map(lambda jar: _good(jar, folder / jar.path), jars))
    return [jar for jar, is_good in zip(jars, good, strict=True) if not is_good]


def _good(jar: Jar, path: Path) -> bool:
    """Whether the file is there with the right sha256; a wrong one is deleted."""
    try:
        found = sha256_of(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    if found == jar.sha256:
        return True
    log.warning("%s has sha256 %s instead of %s: deleted, to be fetched again", path, found, jar.sha256)
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
    from streams.local.maven_repository import repositories  # brings jgo, which takes half a second to import

    sources = repositories(repository)
    partial = folder / f".{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed: we hold the lock
    partial.mkdir(parents=True)
    shown = progress or Progress(console=Console(stderr=True))
    task = shown.add_task(f"jars of {name}", total=len(jars))

    def bring(jar: Jar) -> None:
        if not cancelled.is_set():
            _bring(jar, folder, partial, sources, cancelled)
            shown.advance(task)

    try:
        with shown if progress is None else nullcontext(), ThreadPoolExecutor(THREADS) as pool:
            _run_all(pool, bring, jars)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if cancelled.is_set():
        raise RetryLater(f"the download of the jars of {name} was stopped; the next start goes on with it")


def _run_all(pool: ThreadPoolExecutor, bring: Callable[[Jar], None], jars: Sequence[Jar]) -> None:
    """Bring all jars; the first error drops those that haven't begun."""
    try:
        for _ in pool.map(bring, jars):
            pass
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _bring(jar: Jar, folder: Path, partial: Path, sources: dict[str, str], cancelled: threading.Event) -> None:
    """Fetch one jar, check it, and rename it into the cache."""
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
        "was refused and deleted. Try again; if it stays so, the repository delivers something else than Maven "
        "Central: set SX9_MAVEN_REPOSITORY to one you trust"
    )


def _resolve(jar: Jar, work: Path, sources: dict[str, str]) -> Path:
    """Have jgo fetch one jar into an empty folder, its errors mapped to ours."""
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
            f"can't write {jar.path.name} under {work.parent.parent} ({error.strerror}): free some room, or set "
            "SX9_CACHE_DIR to a folder you can write to"
        ) from error


def _named(sources: dict[str, str]) -> str:
    from streams.local.maven_repository import without_login

    return ", ".join(without_login(url) for url in sources.values())
