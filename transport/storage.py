"""Files in a folder, or at any fsspec URL such as s3://bucket/folder, that are replaced whole or not at all.

A folder of this machine is used directly. Everything else goes through `fsspec`, which knows S3, Google Cloud
Storage, Azure, SFTP and others, each by a package of its own. Addresses and credentials of a store are those of its
package: for S3 the variables of AWS, such as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from schemas.errors import BadConfiguration, RetryLater
from transport.files import sync, write_atomically
from transport.secrets import without_secrets

_REPLACED_WHOLE = frozenset(("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "memory"))
"""Protocols whose stores show an object when all of it is there, and replace it at once."""


class Storage(Protocol):
    """Files by name; a name has slashes."""

    url: str

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            FileNotFoundError: There is none.
            RetryLater, BadConfiguration: The store does not answer, or refuses. So does every method.
        """

    def write(self, name: str, data: bytes) -> None:
        """Write or replace a file: readers see all of the old bytes, or all of the new ones."""

    def put(self, name: str, path: Path) -> None:
        """Write a file of this machine, as `write` does, without having all of it in memory."""

    def get(self, name: str, path: Path) -> None:
        """Copy a file to this machine. If it is cut off, a part of it is at `path`.

        Raises:
            FileNotFoundError: There is none.
        """

    def names(self, folder: str = "") -> list[str]:
        """The names of the files and folders directly in a folder, sorted; none if it is not there."""


def storage_at(url: str) -> Storage:
    """The storage at a URL, or in a folder of this machine.

    Raises:
        BadConfiguration: There is no such kind of URL, or its package is missing.
    """
    if url.startswith("file://"):
        url = url.removeprefix("file://")
    return FsspecStorage(url) if "://" in url else FolderStorage(Path(url))


class FolderStorage:
    """A folder of this machine; see `Storage`. Missing folders are made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = str(folder)

    def read(self, name: str) -> bytes:
        """See `Storage.read`."""
        with self._errors(name):
            return (self.folder / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """See `Storage.write`."""
        with self._errors(name):
            write_atomically(self.folder / name, data)

    def put(self, name: str, path: Path) -> None:
        """See `Storage.put`."""
        target = self.folder / name
        partial = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        with self._errors(name):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, partial)
            sync(partial)
            partial.replace(target)
            sync(target.parent)

    def get(self, name: str, path: Path) -> None:
        """See `Storage.get`."""
        with self._errors(name):
            shutil.copyfile(self.folder / name, path)

    def names(self, folder: str = "") -> list[str]:
        """See `Storage.names`; files that are being written are left out."""
        try:
            with self._errors(folder):
                return sorted(p.name for p in (self.folder / folder).iterdir() if p.suffix != ".tmp")
        except FileNotFoundError:
            return []

    @contextlib.contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(f"{self.folder / name} is missing") from error
        except PermissionError as error:
            raise BadConfiguration(f"{self.folder / name} can't be used ({error}): change its rights") from error
        except OSError as error:
            raise RetryLater(
                f"{self.folder / name} can't be read or written now ({error}): free some space"
            ) from error


class FsspecStorage:
    """Files at a URL that fsspec knows; see `Storage`."""

    def __init__(self, url: str) -> None:
        self.url = without_secrets(url.rstrip("/"))
        protocol = url.partition("://")[0]
        self._at_once = protocol in _REPLACED_WHOLE
        try:
            from fsspec.core import url_to_fs

            self._fs, self._root = url_to_fs(url.rstrip("/"))
        except ImportError as error:
            raise BadConfiguration(
                f"{self.url}: a package is missing ({error}); for S3 it is in the extra `s3`: "
                'pip install "sx9-ml-models[s3]"'
            ) from error
        except ValueError as error:
            raise BadConfiguration(
                f"{self.url} can't be used ({error}): give a folder, or a URL that fsspec knows, such as s3://bucket/x"
            ) from error

    def read(self, name: str) -> bytes:
        """See `Storage.read`."""
        with self._errors(name):
            data: bytes = self._fs.cat_file(self._path(name))
            return data

    def write(self, name: str, data: bytes) -> None:
        """See `Storage.write`."""
        with self._replacing(name) as path:
            self._fs.pipe_file(path, data)

    def put(self, name: str, path: Path) -> None:
        """See `Storage.put`."""
        with self._replacing(name) as target:
            self._fs.put_file(str(path), target)

    def get(self, name: str, path: Path) -> None:
        """See `Storage.get`."""
        with self._errors(name):
            self._fs.get_file(self._path(name), str(path))

    def names(self, folder: str = "") -> list[str]:
        """See `Storage.names`."""
        with self._errors(folder):
            self._fs.invalidate_cache()
            try:
                found: list[Any] = self._fs.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return []
        names = {str(path).rstrip("/").rpartition("/")[2] for path in found}
        return sorted(name for name in names if not name.endswith(".tmp"))

    @contextlib.contextmanager
    def _replacing(self, name: str) -> Iterator[str]:
        """The path to write to, for a file that is to appear whole."""
        path = self._path(name)
        with self._errors(name):
            if self._at_once:
                yield path
                return
            partial = f"{path}.{os.getpid()}.tmp"
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            yield partial
            self._fs.mv(partial, path)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    @contextlib.contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """Map errors: each store has its own."""
        where = f"{self.url}/{name}"
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{where} is missing") from error
        except PermissionError as error:
            raise BadConfiguration(
                f"{where} is refused ({error}): check the credentials and their rights"
            ) from error
        except Exception as error:
            raise RetryLater(
                f"{where} can't be read or written now ({type(error).__name__}: {error}): check the address, the "
                "credentials and that the store answers, and try again"
            ) from error
