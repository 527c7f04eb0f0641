"""The versions of each model as folders, and which of them serves.

    output/models/distilbert-mitre/
        v0001/  v0002/           weights, tokenizer, card, manifest.json; never changed once they are there
        champion -> v0002        moved atomically
        config.json -> champion/config.json, ...   so that the folder itself loads as the champion

A version is written under a temporary name, brought to disk, and renamed: a folder with a version's name is
complete. What a killed run left is removed by the next one, but for its checkpoint, from which that goes on.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import BadConfiguration
from schemas.versions import Manifest
from trainers.store import manifest as manifests
from transport.files import LOCK_TIMEOUT_S, link_atomically, lock, sync, sync_folder

CHAMPION = "champion"
FREE_MB = 1_000
"""Room that a run needs at least: a DistilBERT of 66 million parameters is 270 MB."""
_VERSION = re.compile(r"v\d{4,}")


class Registry:
    """The versions under one folder.

    Args:
        root: `output/models`; made when the first version is written.
        home: Folder of the one model of this registry, where it isn't `root/<model>`.
    """

    def __init__(self, root: Path, home: Path | None = None) -> None:
        self.root = root
        self._home = home

    def home(self, model: str) -> Path:
        """Where all of a model's versions lie."""
        return self._home or self.root / model

    def folder(self, model: str, version: str) -> Path:
        """Where a version lies, whether it is there or not."""
        return self.home(model) / version

    def has(self, model: str, version: str) -> bool:
        """Whether a version is there."""
        return self.folder(model, version).is_dir()

    def versions(self, model: str) -> list[Manifest]:
        """The manifests of all versions, oldest first; their files are not looked at.

        Raises:
            Corrupt: A manifest is missing or unreadable.
        """
        folders = self.home(model).glob("v*")
        return [manifests.read(p) for p in sorted(folders) if _VERSION.fullmatch(p.name)]

    def verified(self, model: str, version: str) -> Manifest:
        """The manifest of a version whose files have the hashes that it states.

        Raises:
            Corrupt: A file is missing or changed.
        """
        return manifests.verify(self.folder(model, version))

    def champion(self, model: str) -> str | None:
        """Name of the serving version; None before the first promotion."""
        link = self.home(model) / CHAMPION
        return str(link.readlink()) if link.is_symlink() else None

    def promote(self, model: str, version: str) -> None:
        """Let a version serve; doing it again changes nothing."""
        folder = self.home(model)
        if self.champion(model) != version:
            link_atomically(folder / CHAMPION, version)
        names = {path.name for path in self.folder(model, version).iterdir()}
        for name in names:
            if not (folder / name).is_symlink():
                link_atomically(folder / name, f"{CHAMPION}/{name}")
        for path in folder.iterdir():
            if path.is_symlink() and path.name != CHAMPION and path.name not in names:
                path.unlink()

    def checkpoints(self, model: str, version: str) -> Path:
        """Where the run that makes a version keeps its checkpoint, until the version is there."""
        return self.home(model) / f".{version}.checkpoint"

    @contextlib.contextmanager
    def draft(self, model: str, version: str) -> Iterator[Path]:
        """An empty folder that becomes the version when the block ends well, and goes away when it doesn't.

        Raises:
            RetryLater: Another process is writing a version of this model.
            BadConfiguration: There is too little room.
        """
        home = self.home(model)
        with lock(home / ".lock", f"training {model}", timeout_s=LOCK_TIMEOUT_S):
            for left in home.glob(".*.partial"):
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
            _check_room(home)
            partial = home / f".{version}.partial"
            partial.mkdir()
            try:
                yield partial
                sync_folder(partial)
                partial.rename(home / version)
                sync(home)
                for left in home.glob(".*.checkpoint"):
                    shutil.rmtree(left)
            finally:
                shutil.rmtree(partial, ignore_errors=True)


def _check_room(folder: Path) -> None:
    free_mb = shutil.disk_usage(folder).free // 2**20
    if free_mb < FREE_MB:
        raise BadConfiguration(
            f"{folder} has {free_mb} MB left, a version needs {FREE_MB} MB: free some, or set SX9_OUTPUT_DIR"
        )
