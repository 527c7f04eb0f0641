"""Atomic writes, and locks between processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import RetryLater
from transport.files import link_atomically, lock, remove_unfinished, sha256_of, write_atomically

HOLD = """
import sys, time
from pathlib import Path
from transport.files import lock
with lock(Path(sys.argv[1]), "testing"):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A lock file that another process holds."""
    path = tmp_path / "a.lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        yield path, holder
        holder.kill()


def test_a_file_is_replaced_as_a_whole_and_folders_are_created(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    for data in (b"one", b"two"):
        write_atomically(path, data)
        assert path.read_bytes() == data
    assert list(path.parent.iterdir()) == [path]
    assert sha256_of(path) == "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"


def test_a_link_is_replaced(tmp_path: Path) -> None:
    for target in ("one", "two"):
        link_atomically(tmp_path / "link", target)
        assert (tmp_path / "link").readlink() == Path(target)


def test_the_wait_for_a_lock_is_bounded(
    held: tuple[Path, subprocess.Popen[str]],
) -> None:
    with (
        pytest.raises(RetryLater, match=r"testing for over 0 s .*a\.lock.*: stop it"),
        lock(held[0], "testing", timeout_s=0.2),
    ):
        pass


def test_a_wait_for_a_lock_can_be_cancelled(held: tuple[Path, subprocess.Popen[str]]) -> None:
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    began = time.monotonic()
    with (
        pytest.raises(RetryLater, match="stopped waiting while another process was testing"),
        lock(held[0], "testing", cancel_check=cancelled.is_set),
    ):
        pass
    assert time.monotonic() - began < 10


def test_the_lock_of_a_killed_process_is_free(held: tuple[Path, subprocess.Popen[str]]) -> None:
    path, holder = held
    holder.kill()
    holder.wait()
    with lock(path, "testing", timeout_s=5):
        assert path.exists()
    assert path.exists()


def test_a_process_that_inherited_the_descriptor_keeps_the_lock_of_a_killed_one(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    code = HOLD.replace('"testing"', '"testing", on_acquired=descriptors.append').replace(
        "    print(", "    subprocess.Popen(['sleep', '1'], pass_fds=descriptors)\n    print("
    )
    command = [sys.executable, "-c", f"import subprocess\ndescriptors = []\n{code}", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.kill()
    with pytest.raises(RetryLater), lock(path, "testing", timeout_s=0.1):
        pass
    with lock(path, "testing", timeout_s=10):
        pass


def test_what_a_killed_process_has_not_finished_is_removed_and_nothing_else(tmp_path: Path) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    (tmp_path / "dsl").mkdir()
    left = tmp_path / "dsl" / f".summary.json.{done.pid}.tmp"
    others = [
        tmp_path / f".summary.json.{os.getpid()}.tmp",
        tmp_path / ".mine.tmp",
        tmp_path / "dsl" / "summary.json",
    ]
    for path in (left, *others):
        path.touch()
    assert remove_unfinished(tmp_path) == [left]
    assert [path.exists() for path in others] == [True] * 3
    assert remove_unfinished(tmp_path / "absent") == []
