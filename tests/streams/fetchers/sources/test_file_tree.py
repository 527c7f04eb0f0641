"""Folders as feeds: what is known is not told again, and nothing outside the folder is read."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from schemas.encoding import EncodedEvent
from schemas.errors import BadRecord, RetryLater
from schemas.events import Entity
from streams.fetchers.base import limits
from streams.fetchers.base.feed import Batch, FeedState, LeftOut, RejectedItem, UnchangedFile, no_progress
from streams.fetchers.sources.file_tree import FileTree, NotOfFeed
from streams.fetchers.sources.folder import read_without_links, walk


def parse(data: bytes, path: str, release: str) -> Entity:
    if data == b"broken":
        raise BadRecord("bad", "it is broken")
    if data == b"other":
        raise NotOfFeed("other")
    return Entity(id=data.decode(), feed="f", release=release, kind="tool", name=path)


TREE = FileTree(includes=lambda path: path.endswith(".txt"), parse=parse)


def read(folder: Path, state: FeedState) -> Batch:
    return TREE.read("f", str(folder), state, folder / "cache", no_progress)


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('_', '/')}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_folder_of_known_files_says_that_nothing_changed_and_each_change_is_seen(tmp_path: Path) -> None:
    folder = write(tmp_path, a="one", b="two", c="broken", d="other", in_e="one")
    first = read(folder, FeedState())
    assert [type(each) for each in first.outcomes or ()].count(EncodedEvent) == 2
    assert read(folder, first.state).outcomes is None
    write(folder, b="three")
    edited = read(folder, first.state)
    assert [o.event.id for o in edited.outcomes or () if isinstance(o, EncodedEvent)] == ["three"]
    assert edited.gone == {"two"}
    (folder / "b.txt").unlink()
    removed = read(folder, edited.state)
    assert removed.outcomes is not None
    assert (removed.gone, read(folder, removed.state).outcomes) == ({"three"}, None)
    write(folder, in_f="four")
    added = read(folder, removed.state)
    assert [type(each) for each in added.outcomes or ()].count(UnchangedFile) == 4


def test_an_empty_folder_and_a_path_that_can_not_be_used_are_never_unchanged(tmp_path: Path) -> None:
    assert read(tmp_path, read(tmp_path, FeedState()).state).outcomes == []
    (tmp_path / "a\x01.txt").write_text("one")
    first = read(write(tmp_path, b="two"), FeedState())
    again = read(tmp_path, first.state)
    assert [o.error.reason for o in again.outcomes or () if isinstance(o, RejectedItem)] == ["path-escape"]


def test_links_are_not_followed_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("secret")
    folder = write(tmp_path / "tree", a="one", sub_b="two")
    (folder / ".hidden.txt").write_text("no")
    (folder / "c.txt").symlink_to("a.txt")
    (folder / "d.txt").symlink_to("../outside/secret.txt")
    (folder / "sub" / "out").symlink_to(tmp_path / "outside")
    assert list(walk(folder)) == [".hidden.txt", "a.txt", "c.txt", "d.txt", "sub/b.txt", "sub/out"]
    outcomes = read(folder, FeedState()).outcomes or ()
    assert sorted(o.reason for o in outcomes if isinstance(o, LeftOut)) == ["hidden", "link"]
    assert [o.error.reason for o in outcomes if isinstance(o, RejectedItem)] == ["path-escape"]
    assert {o.event.id for o in outcomes if isinstance(o, EncodedEvent)} == {"one", "two"}


def test_a_file_at_the_limit_is_read_and_one_beyond_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 100)
    assert read_without_links(path, 100) == b"x" * 100
    with pytest.raises(BadRecord, match="a has 100 bytes; the limit is 99"):
        read_without_links(str(path), 99)
    assert len(read_without_links("/proc/self/status", limits.MAX_FILE_BYTES)) > 100  # its size is said to be 0


def test_a_folder_with_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_TREE_ENTRIES", 1)
    batch = read(write(tmp_path, a="one", b="two"), FeedState())
    assert batch.source_error is not None
    assert "over 1 files" in batch.source_error.detail


def test_a_folder_that_can_not_be_read_is_an_error_and_its_files_are_not_taken_to_be_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(write(tmp_path, a="one", sub_b="two"), FeedState())
    scandir = os.scandir

    def failing(path: str) -> Any:
        if str(path).endswith("sub"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    second = read(tmp_path, first.state)
    assert second.source_error is not None
    assert re.search("unreadable: .*sub: Permission denied", str(second.source_error))
    assert (second.gone, second.is_complete) == (frozenset(), False)


def git(root: Path, *words: str) -> None:
    who = ["-c", "user.name=n", "-c", "user.email=e@x.test", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", root, *who, *words], check=True, capture_output=True)


def test_a_bare_mirror_is_read_as_a_repository_even_where_its_head_names_a_branch_that_is_gone(
    tmp_path: Path,
) -> None:
    upstream, mirror = write(tmp_path / "upstream", a="one"), tmp_path / "mirrors" / "upstream.git"
    git(upstream, "init", "--quiet", "--initial-branch", "master")
    git(upstream, "add", "--all")
    git(upstream, "commit", "--quiet", "--message", "x")
    git(tmp_path, "clone", "--quiet", "--mirror", str(upstream), str(mirror))
    first = TREE.read("f", str(mirror), FeedState(), tmp_path / "cache", no_progress)
    assert [o.event.id for o in first.outcomes or () if isinstance(o, EncodedEvent)] == ["one"]
    git(upstream, "branch", "--move", "master", "main")
    git(mirror, "fetch", "--quiet", "--prune")
    write(upstream, b="two")
    git(upstream, "add", "--all")
    git(upstream, "commit", "--quiet", "--message", "y")
    git(mirror, "fetch", "--quiet")
    second = TREE.read("f", str(mirror), first.state, tmp_path / "cache", no_progress)
    assert [o.event.id for o in second.outcomes or () if isinstance(o, EncodedEvent)] == ["two"]
    git(upstream, "branch", "--move", "main", "odd")
    git(mirror, "fetch", "--quiet", "--prune")
    with pytest.raises(RetryLater, match="HEAD"):
        TREE.read("f", str(mirror), first.state, tmp_path / "cache", no_progress)
