"""A file in a folder or at a URL is there whole or not at all; on a real S3 server, too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import BadConfiguration, RetryLater
from tests.transport.s3 import s3_bucket
from transport.storage import Storage, storage_at


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URL of an empty bucket."""
    with s3_bucket() as url:
        yield url


@pytest.fixture(params=["folder", "file", "s3", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """One of each kind, empty."""
    if request.param == "s3":
        return storage_at(f"{request.getfixturevalue('bucket')}/storage")
    return storage_at(
        {"folder": str(tmp_path), "file": f"file://{tmp_path}", "memory": "memory://sx9"}[request.param]
    )


def test_what_is_written_is_read_listed_and_replaced(storage: Storage) -> None:
    assert storage.names() == []
    assert storage.names("no/such") == []
    with pytest.raises(FileNotFoundError, match=r"a/b\.bin"):
        storage.read("a/b.bin")
    storage.write("a/b.bin", b"\x00one")
    storage.write("a/c/d", b"")
    assert storage.read("a/b.bin") == b"\x00one"
    assert storage.names() == ["a"]
    assert storage.names("a") == ["b.bin", "c"]
    storage.write("a/b.bin", b"two")
    storage.write("a/e", b"three")
    assert storage.read("a/b.bin") == b"two"
    assert storage.names("a") == ["b.bin", "c", "e"]


def test_a_bucket_that_is_not_there_and_a_wrong_password_are_told_apart(bucket: str) -> None:
    with pytest.raises((BadConfiguration, RetryLater, FileNotFoundError), match="no-such-bucket/x"):
        storage_at("s3://no-such-bucket").write("x", b"")


@pytest.mark.parametrize(
    ("url", "told"), [("nix://bucket/x", "a URL that fsspec knows"), ("gs://bucket/x", "a package is missing")]
)
def test_an_unknown_kind_of_url_and_a_missing_package_are_named(url: str, told: str) -> None:
    with pytest.raises(BadConfiguration, match=told):
        storage_at(url)


def test_a_folder_that_is_closed_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises((RetryLater, FileNotFoundError, BadConfiguration), match="file/x"):
            storage_at(str(tmp_path / "file")).read("x")
        return
    tmp_path.chmod(0o500)
    with pytest.raises(BadConfiguration, match="change its rights"):
        storage_at(str(tmp_path)).write("x", b"")
