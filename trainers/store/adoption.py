"""A version of another registry becomes one of this registry, with every file and its manifest as they are."""

from __future__ import annotations

import shutil

from schemas.errors import BadConfiguration
from trainers.store.registry import Registry
from transport.files import sync, sync_folder


def adopt(source: Registry, registry: Registry, model: str, version: str) -> None:
    """Copy a version. Doing it again changes nothing; a copy that was cut off is no version.

    Args:
        source: The registry that has it; its files are verified.
        registry: The one that gets it. Nothing else may do this at the same time.
        model, version: Names.

    Raises:
        Corrupt: A file was changed.
        BadConfiguration: The registry has another version of this name, or there is no room.
    """
    manifest = source.verified(model, version)
    folder, home = registry.folder(model, version), registry.home(model)
    if registry.has(model, version):
        if registry.verified(model, version) != manifest:
            raise BadConfiguration(
                f"{folder} is another version than {source.folder(model, version)}: more versions came meanwhile "
                "than the rebuild left numbers for; delete its folder and rebuild again"
            )
        return
    home.mkdir(parents=True, exist_ok=True)
    size = sum(path.stat().st_size for path in source.folder(model, version).iterdir())
    if (free := shutil.disk_usage(home).free) < 2 * size:
        raise BadConfiguration(
            f"{home} has {free // 2**20} MB left, but a copy of {version} needs {2 * size // 2**20 + 1} MB: free "
            "some space"
        )
    partial = home / f".{version}.adopted"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source.folder(model, version), partial)
    sync_folder(partial)
    partial.rename(folder)
    sync(home)
