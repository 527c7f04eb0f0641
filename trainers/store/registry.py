"""The versions of each model as folders, and the champion: the version that serves.

    output/models/distilbert-mitre/
        v0001/  v0002/           weights, tokenizer, card, manifest.json; never changed after they are written
        champion -> v0002        replaced atomically
        config.json -> champion/config.json, ...   so that the folder itself loads as the champion

A version is written under a temporary name, flushed to disk, and renamed. So a folder with the name of a version is
complete. The next run removes what a killed run left, except for its checkpoint, from which the run resumes.
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
"""The link to the version that serves."""
MIN_FREE_MB = 1_000
"""The free disk space that a run needs; a DistilBERT of 66 million parameters takes 270 MB."""
NODES = "nodes.json"
"""A version with this file has node embeddings; see `trainers.store.node_embeddings`."""
VERSION = re.compile(r"v\d{4,}")
"""The name of a version."""


class Registry:
    """The versions under one folder.

    Args:
        root: Usually `output/models`; created when the first version is written.
        home: The folder of a registry with a single model, if it is not `root/<model>`.
    """

    def __init__(self, root: Path, home: Path | None = None) -> None:
        self.root = root
        self._home = home

    def home(self, model: str) -> Path:
        """The folder of a model, which holds all of its versions."""
        return self._home or self.root / model

    def folder(self, model: str, version: str) -> Path:
        """The folder of a version, whether it exists or not."""
        return self.home(model) / version

    def has(self, model: str, version: str) -> bool:
        """Whether a version exists."""
        return self.folder(model, version).is_dir()

    def versions(self, model: str) -> list[Manifest]:
        """The manifests of all versions, oldest first; their files are not verified.

        Raises:
            Corrupt: A manifest is missing or cannot be decoded.
        """
        folders = self.home(model).glob("v*")
        return [manifests.read(p) for p in sorted(folders) if VERSION.fullmatch(p.name)]

    def verified(self, model: str, version: str) -> Manifest:
        """The manifest of a version, after its files were verified against the hashes in it.

        Raises:
            Corrupt: A file is missing or was changed.
        """
        return manifests.verify(self.folder(model, version))

    def champion(self, model: str) -> str | None:
        """The name of the version that serves; None before the first promotion."""
        return self._linked(model)

    def upload(self, model: str, version: str) -> None:
        """Bring the files of a version to where the registry is shared, unseen until `publish`; here, nowhere."""

    def publish(self, model: str, version: str) -> None:
        """Show a version to all that share the registry. Idempotent. Here, whoever sees the folder sees it."""

    def publish_first(self, model: str) -> None:
        """Publish what the folder has, if nothing of the model is published yet."""

    def _linked(self, model: str) -> str | None:
        link = self.home(model) / CHAMPION
        return str(link.readlink()) if link.is_symlink() else None

    def promote(self, model: str, version: str) -> None:
        """Make a version the champion. Idempotent."""
        home = self.home(model)
        if self._linked(model) != version:
            link_atomically(home / CHAMPION, version)
        names = {path.name for path in self.folder(model, version).iterdir()}
        for name in names:
            if not (home / name).is_symlink():
                link_atomically(home / name, f"{CHAMPION}/{name}")
        for path in home.iterdir():
            if path.is_symlink() and path.name != CHAMPION and path.name not in names:
                path.unlink()

    @contextlib.contextmanager
    def lock(self, model: str) -> Iterator[None]:
        """Hold the lock of a model while the block runs: one process at a time writes a version, or promotes one.

        Raises:
            RetryLater: Another process holds it.
        """
        with lock(self.home(model) / ".lock", f"training {model}", timeout_s=LOCK_TIMEOUT_S):
            yield

    @contextlib.contextmanager
    def champion_lock(self, model: str) -> Iterator[None]:
        """Hold the lock of the champion link while the block runs. A run does not hold it, but its answer does.

        Raises:
            RetryLater: Another process holds it.
        """
        with lock(self.home(model) / ".champion.lock", f"promoting {model}", timeout_s=LOCK_TIMEOUT_S):
            yield

    def checkpoint_folder(self, model: str, version: str) -> Path:
        """Where the run that trains a version keeps its checkpoint until the version exists."""
        return self.home(model) / f".{version}.checkpoint"

    @contextlib.contextmanager
    def draft(self, model: str, version: str) -> Iterator[Path]:
        """An empty folder that becomes the version when the block succeeds, and is removed when it fails.

        Raises:
            RetryLater: Another process is writing a version of this model.
            BadConfiguration: There is too little disk space.
        """
        home = self.home(model)
        with self.lock(model):
            _remove_partial(home)
            _check_disk_space(home)
            partial = home / f".{version}.partial"
            partial.mkdir()
            try:
                yield partial
                sync_folder(partial)
                partial.rename(home / version)
                sync(home)
                for checkpoint in home.glob(".*.checkpoint"):
                    shutil.rmtree(checkpoint)
            finally:
                shutil.rmtree(partial, ignore_errors=True)


def _remove_partial(home: Path) -> None:
    """Remove the folders and links that a killed run left."""
    for partial in home.glob(".*.partial"):
        if partial.is_dir() and not partial.is_symlink():
            shutil.rmtree(partial)
        else:
            partial.unlink()


def _check_disk_space(folder: Path) -> None:
    free_mb = shutil.disk_usage(folder).free // 2**20
    if free_mb < MIN_FREE_MB:
        raise BadConfiguration(
            f"{folder} has {free_mb} MB left, but a version needs {MIN_FREE_MB} MB: free some space, or set "
            "SX9_OUTPUT_DIR"
        )
