"""API keys: random, shown once, kept as hashes in one file.

    sx9_<name>.<secret> ──SHA-256──> compared with the file ──> the scopes of the key

A secret has 256 random bits, so nobody finds it from a plain hash. The file is read again when it changes: a
revoked key ends at once.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from pathlib import Path
from typing import Literal

import msgspec

from schemas.errors import BadConfiguration, Corrupt
from transport.files import write_atomically

Scope = Literal["read", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "admin")
"""`admin` may also promote and roll back, and do what `read` may: ask, and give feedback."""
_NAME = re.compile(r"[a-z0-9-]{1,40}", re.ASCII)


class StoredKey(msgspec.Struct, frozen=True):
    """A key in the file; `sha256` is that of the whole key, `created_ms` is ms since 1970."""

    name: str
    scope: Scope
    sha256: str
    created_ms: int


class Keys:
    """The keys of a server.

    Args:
        path: The file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int, int] | None = None
        self._keys: dict[str, StoredKey] = {}

    def all(self) -> list[StoredKey]:
        """The keys, in the order in which they were made.

        Raises:
            Corrupt: The file can't be read.
        """
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._stamp, self._keys = None, {}
            return []
        stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        if stamp != self._stamp:
            try:
                found = msgspec.json.decode(self.path.read_bytes(), type=list[StoredKey])
            except msgspec.DecodeError as error:
                raise Corrupt(
                    f"{self.path} holds no keys ({error}): restore it, or delete it and make new keys"
                ) from error
            self._stamp, self._keys = stamp, {key.name: key for key in found}
        return list(self._keys.values())

    def add(self, name: str, scope: Scope, now_ms: int) -> str:
        """Make a key.

        Returns:
            The key. It can't be read again.

        Raises:
            BadConfiguration: The name is taken, or not one.
        """
        there = self.all()
        if not _NAME.fullmatch(name):
            raise BadConfiguration(f"{name!r} is no name of a key: use 1 to 40 lower-case letters, digits and -")
        if name in self._keys:
            raise BadConfiguration(f"there is a key {name!r}: choose another name, or `sx9 keys revoke {name}`")
        key = f"sx9_{name}.{secrets.token_urlsafe(32)}"
        self._write([*there, StoredKey(name, scope, _hash(key), now_ms)])
        return key

    def revoke(self, name: str) -> None:
        """Delete a key.

        Raises:
            BadConfiguration: There is none of that name.
        """
        there = self.all()
        if name not in self._keys:
            known = ", ".join(self._keys) or "none"
            raise BadConfiguration(f"there is no key {name!r}; there are: {known}")
        self._write([key for key in there if key.name != name])

    def find(self, key: str) -> StoredKey | None:
        """The stored key of a key that a request brings; None if it is not one."""
        self.all()
        stored = self._keys.get(key.removeprefix("sx9_").partition(".")[0])
        if stored and hmac.compare_digest(stored.sha256, _hash(key)):
            return stored
        return None

    def _write(self, keys: list[StoredKey]) -> None:
        write_atomically(self.path, msgspec.json.format(msgspec.json.encode(keys), indent=1))
        self.path.chmod(0o600)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
