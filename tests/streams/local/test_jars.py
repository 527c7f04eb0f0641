"""Downloads from a Maven repository on the loopback interface: complete, damaged, incomplete and closed."""

from __future__ import annotations

import gc
import hashlib
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.progress import Progress

from schemas.errors import BadConfiguration, RetryLater
from streams.local.jars import LISTS, Jar, fetch, lock_file, read_lock, write_lock
from streams.local.machine import free_port
from tools.jar_locks import jar_of
from transport.files import sha256_of

GOOD = [b"one" * 1000, b"two" * 1000, b"three" * 1000]


class CountingHandler(SimpleHTTPRequestHandler):
    """Serves a folder and records the requests."""

    asked: list[str]

    def log_message(self, *args: object) -> None:
        self.asked.append(self.path)


@pytest.fixture(autouse=True)
def _connections_that_jgo_left_open() -> Iterator[None]:
    """Collect the connections that jgo leaves open here, not during another test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def jars() -> list[Jar]:
    return [Jar("org.example", f"jar{n}", "1.0", "", hashlib.sha256(b).hexdigest()) for n, b in enumerate(GOOD)]


@pytest.fixture
def published(tmp_path: Path, jars: list[Jar]) -> Path:
    """The folder of a Maven repository that has them."""
    for jar, content in zip(jars, GOOD, strict=True):
        (tmp_path / "published" / jar.path).parent.mkdir(parents=True)
        (tmp_path / "published" / jar.path).write_bytes(content)
    return tmp_path / "published"


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def repository(published: Path, asked: list[str]) -> Iterator[str]:
    """Its address, with a login in it."""
    handler = type("Handler", (CountingHandler,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(published))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://me:secret@127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def get(jars: list[Jar], cache: Path, repository: str, progress: Progress | None = None) -> list[Path]:
    return fetch("example", jars, cache, repository, progress, threading.Event())


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_every_jar_is_downloaded_once_and_then_found_in_the_cache(
    jars: list[Jar], cache: Path, repository: str, asked: list[str]
) -> None:
    paths = get(jars, cache, repository)
    assert [path.read_bytes() for path in paths] == GOOD
    assert files(cache) == ["jar0-1.0.jar", "jar1-1.0.jar", "jar2-1.0.jar"]
    asked.clear()
    assert get(jars, cache, repository) == paths
    assert asked == []


def test_the_progress_counts_the_jars(jars: list[Jar], cache: Path, repository: str) -> None:
    with Progress(disable=True) as progress:
        get(jars, cache, repository, progress)
        assert [(task.description, task.completed, task.total) for task in progress.tasks] == [
            ("jars of example", 3, 3)
        ]


def test_a_jar_with_another_hash_is_refused_and_deleted(
    jars: list[Jar], cache: Path, repository: str, published: Path
) -> None:
    (published / jars[1].path).write_bytes(b"something else")
    found = hashlib.sha256(b"something else").hexdigest()
    message = rf"jar1-1.0.jar .* has sha256 {found}, the locked list says {jars[1].sha256}.*SX9_MAVEN_REPOSITORY"
    with pytest.raises(BadConfiguration, match=message) as refused:
        get(jars, cache, repository)
    assert "jar1-1.0.jar" not in files(cache)
    assert "secret" not in str(refused.value)


def test_a_jar_damaged_in_the_cache_is_downloaded_again(
    jars: list[Jar], cache: Path, repository: str, asked: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    damaged = get(jars, cache, repository)[2]
    damaged.write_bytes(GOOD[2][:-1])
    asked.clear()
    with caplog.at_level(logging.WARNING):
        get(jars, cache, repository)
    assert damaged.read_bytes() == GOOD[2]
    assert {path.rpartition("/")[2] for path in asked} == {"jar2-1.0.jar", "jar2-1.0.jar.sha1"}
    assert "deleted, to be downloaded again" in caplog.text


def test_without_network_the_error_names_the_remedies(jars: list[Jar], cache: Path) -> None:
    closed = f"http://127.0.0.1:{free_port(set())}"
    with pytest.raises(RetryLater, match=re.escape(f"missing and {closed} does not answer")) as error:
        get(jars, cache, closed)
    assert "SX9_MAVEN_REPOSITORY" in str(error.value)
    assert files(cache) == []


def test_no_network_is_needed_once_the_jars_are_in_the_cache(jars: list[Jar], cache: Path, repository: str) -> None:
    paths = get(jars, cache, repository)
    assert get(jars, cache, f"http://127.0.0.1:{free_port(set())}") == paths


def test_a_repository_that_lacks_a_jar_is_named_without_its_login(
    jars: list[Jar], cache: Path, repository: str, published: Path
) -> None:
    (published / jars[0].path).unlink()
    with pytest.raises(RetryLater, match=r"jar0-1.0.jar is missing and .* does not deliver it") as error:
        get(jars, cache, repository)
    assert "secret" not in str(error.value)


def test_two_concurrent_downloads_fetch_every_jar_once(
    jars: list[Jar], cache: Path, repository: str, asked: list[str]
) -> None:
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: get(jars, cache, repository), range(2)))
    assert results[0] == results[1]
    assert len([path for path in asked if path.endswith(".jar")]) == len(jars)


def test_the_leftovers_of_a_killed_download_are_removed(jars: list[Jar], cache: Path, repository: str) -> None:
    left = cache / ".example.partial" / "tmp1" / "jar0-1.0.jar"
    left.parent.mkdir(parents=True)
    left.write_bytes(GOOD[0][:10])
    get(jars, cache, repository)
    assert files(cache) == ["jar0-1.0.jar", "jar1-1.0.jar", "jar2-1.0.jar"]


def test_a_cancelled_download_raises_retry_later(jars: list[Jar], cache: Path, repository: str) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(RetryLater, match="download of the jars of example was stopped"):
        fetch("example", jars, cache, repository, None, cancelled)


def test_a_cache_that_cannot_be_written_is_named(jars: list[Jar], tmp_path: Path, repository: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadConfiguration, match="SX9_CACHE_DIR"):
        get(jars, tmp_path / "file" / "cache", repository)


def test_a_lock_file_reads_as_it_was_written(tmp_path: Path, jars: list[Jar]) -> None:
    native = Jar("io.netty", "epoll", "4.2", "linux-x86_64", "ab" * 32)
    write_lock(tmp_path / "x.lock", [*jars, native])
    assert read_lock(tmp_path / "x.lock") == [*jars, native]
    assert native.path == Path("io/netty/epoll/4.2/epoll-4.2-linux-x86_64.jar")


@pytest.mark.parametrize("name", LISTS)
def test_the_shipped_lock_files_are_complete_and_sorted(name: str) -> None:
    jars = read_lock(lock_file(name))
    assert len({jar.path for jar in jars}) == len(jars) > 40
    assert all(re.fullmatch("[0-9a-f]{64}", jar.sha256) for jar in jars)
    assert jars == sorted(jars)


def test_a_line_of_maven_becomes_a_jar(tmp_path: Path) -> None:
    file = tmp_path / "a.jar"
    file.write_bytes(b"a")
    lines = [f"   g.h:a:jar:1:compile:{file} -- module a (auto)", f"   g.h:a:jar:osx:1:runtime:{file}"]
    sha256 = sha256_of(file)
    assert [jar_of(line) for line in lines] == [
        Jar("g.h", "a", "1", "", sha256),
        Jar("g.h", "a", "1", "osx", sha256),
    ]
