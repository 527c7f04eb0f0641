"""A registry at a URL, which trainers, servers and commands on several machines share.

    SX9_MODELS_URL/distilbert-mitre/
        files/<sha256>             the files of all versions; never changed
        v0001/manifest.json        names its files with their sha256; written when they are all there
        champion                   the name of the version that serves; replaced at once

The folder of each machine holds the versions that were used there. What is there is read from there; what is not is
fetched, compared with its sha256, and then renamed into its place. If the two differ, the URL is right: two
machines can have trained the same version, and one of them answered.
"""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path
from typing import Protocol

from schemas.codec import decode
from schemas.errors import BadRecord, Corrupt
from schemas.versions import Manifest
from trainers.store import manifest as manifests
from trainers.store.manifest import MANIFEST
from trainers.store.registry import CHAMPION, VERSION, Registry
from transport.files import LOCK_TIMEOUT_S, lock, sync, sync_folder
from transport.storage import Storage, storage_at

log = logging.getLogger(__name__)

FILES = "files"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class NamesRegistry(Protocol):
    """Settings that name a registry."""

    @property
    def models_dir(self) -> Path:
        """The folder of this machine."""

    @property
    def models_url(self) -> str | None:
        """Where it is shared; None: nowhere."""


def open_registry(settings: NamesRegistry) -> Registry:
    """The registry that settings name.

    Raises:
        BadConfiguration: The URL can't be used.
    """
    if not settings.models_url:
        return Registry(settings.models_dir)
    return SharedRegistry(settings.models_dir, storage_at(settings.models_url))


class SharedRegistry(Registry):
    """The versions at a URL, with a folder of this machine.

    Args:
        root: The folder.
        storage: What is at the URL.

    Raises:
        RetryLater, BadConfiguration: The store does not answer, or refuses. So does every method.
    """

    def __init__(self, root: Path, storage: Storage) -> None:
        super().__init__(root)
        self._storage = storage
        self._published: dict[tuple[str, str], bytes] = {}
        self._same: set[tuple[str, str]] = set()

    def folder(self, model: str, version: str) -> Path:
        """The folder of a version, fetched if it is published and not here."""
        local = super().folder(model, version)
        if (model, version) not in self._same:
            published = self._manifest(model, version)
            if published is not None:
                if _manifest_in(local) != published:
                    self._fetch(model, version, published)
                self._same.add((model, version))
        return local

    def has(self, model: str, version: str) -> bool:
        """See `Registry.has`."""
        return super().has(model, version) or self._manifest(model, version) is not None

    def versions(self, model: str) -> list[Manifest]:
        """See `Registry.versions`. No file is fetched."""
        here = {manifest.version: manifest for manifest in super().versions(model)}
        names = (name for name in self._storage.names(model) if VERSION.fullmatch(name))
        there = {name: self._decoded(model, name) for name in names}
        found = here | {name: manifest for name, manifest in there.items() if manifest is not None}
        return [found[name] for name in sorted(found)]

    def champion(self, model: str) -> str | None:
        """See `Registry.champion`. Until one is published, that of the folder."""
        try:
            return self._storage.read(f"{model}/{CHAMPION}").decode().strip()
        except FileNotFoundError:
            return super().champion(model)

    def promote(self, model: str, version: str) -> None:
        """See `Registry.promote`; the version is published before."""
        self.publish(model, version)
        if self.champion(model) != version or not self._storage.names(model).count(CHAMPION):
            self._storage.write(f"{model}/{CHAMPION}", version.encode())
        super().promote(model, version)

    def upload(self, model: str, version: str) -> None:
        """Write the files of a version where they are shared. Without `publish` nobody sees them."""
        local = Path(super().folder(model, version))
        there = set(self._storage.names(f"{model}/{FILES}"))
        for name, sha256 in manifests.read(local).files.items():
            if sha256 not in there:
                self._storage.put(f"{model}/{FILES}/{sha256}", local / name)

    def publish(self, model: str, version: str) -> None:
        """See `Registry.publish`."""
        local = Path(super().folder(model, version))
        manifest = _manifest_in(local)
        if manifest is not None and manifest != self._read_manifest(model, version):
            self.upload(model, version)
            self._storage.write(f"{model}/{version}/{MANIFEST}", manifest)
            self._published[(model, version)] = manifest
            log.info("%s %s is published at %s", model, version, self._storage.url)

    def publish_first(self, model: str) -> None:
        """See `Registry.publish_first`."""
        champion = super().champion(model)
        if champion is None or any(VERSION.fullmatch(name) for name in self._storage.names(model)):
            return
        for manifest in super().versions(model):
            self.publish(model, manifest.version)
        self.promote(model, champion)

    def _decoded(self, model: str, version: str) -> Manifest | None:
        data = self._manifest(model, version)
        try:
            return None if data is None else decode(data, Manifest)
        except BadRecord as error:
            raise Corrupt(
                f"{self._storage.url}/{model}/{version}/{MANIFEST} can't be read ({error}): "
                "restore it from a backup"
            ) from error

    def _manifest(self, model: str, version: str) -> bytes | None:
        """The bytes of the manifest of a version that is published; None if it is not. They are read once."""
        if (model, version) not in self._published:
            data = self._read_manifest(model, version)
            if data is None:
                return None
            self._published[(model, version)] = data
        return self._published[(model, version)]

    def _read_manifest(self, model: str, version: str) -> bytes | None:
        if not VERSION.fullmatch(version):
            return None
        try:
            return self._storage.read(f"{model}/{version}/{MANIFEST}")
        except FileNotFoundError:
            return None

    def _fetch(self, model: str, version: str, published: bytes) -> None:
        """Fetch the files of a version, compare them with their sha256, and rename their folder into its place."""
        home = self.home(model)
        with lock(home / ".fetch.lock", f"fetching {model} {version}", timeout_s=LOCK_TIMEOUT_S):
            local = home / version
            if _manifest_in(local) == published:
                return  # another process of this machine was faster
            if local.exists():
                log.warning("%s differs from %s, where another machine published it", local, self._storage.url)
            partial, replaced = home / f".{version}.fetched", home / f".{version}.replaced"
            for left in (partial, replaced):
                shutil.rmtree(left, ignore_errors=True)
            partial.mkdir()
            (partial / MANIFEST).write_bytes(published)
            for name, sha256 in manifests.read(partial).files.items():
                if Path(name).name != name or not _SHA256.fullmatch(sha256):
                    raise Corrupt(f"{self._storage.url}/{model}/{version}/{MANIFEST} names {name!r} {sha256!r}")
                self._get(f"{model}/{FILES}/{sha256}", partial / name)
            manifests.verify(partial)
            sync_folder(partial)
            if local.exists():
                local.rename(replaced)
            partial.rename(local)
            sync(home)
            shutil.rmtree(replaced, ignore_errors=True)
        log.info("%s %s was fetched from %s", model, version, self._storage.url)

    def _get(self, name: str, path: Path) -> None:
        try:
            self._storage.get(name, path)
        except FileNotFoundError as error:
            raise Corrupt(f"{error}, but a manifest names it: restore it from a backup") from error


def _manifest_in(folder: Path) -> bytes | None:
    path = folder / MANIFEST
    return path.read_bytes() if path.is_file() else None
