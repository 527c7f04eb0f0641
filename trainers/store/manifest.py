"""`manifest.json` of a version: written, read, and verified against the files."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import version as installed
from pathlib import Path

import msgspec

from schemas.codec import decode
from schemas.errors import BadRecord, Corrupt
from schemas.versions import Manifest
from transport.files import sha256_of

MANIFEST = "manifest.json"
LIBRARIES = (
    "accelerate", "matplotlib", "numpy", "peft", "safetensors", "scikit-learn", "tokenizers", "torch",
    "torch-geometric", "transformers",
)  # fmt: skip
"""The packages that the weights depend on."""
_REMEDY = "restore the folder from a backup, or delete it if no trigger names it as a parent"


def file_hashes(folder: Path) -> dict[str, str]:
    """Name -> sha256 of every file in the folder of a version except its manifest, sorted by name."""
    return {p.name: sha256_of(p) for p in sorted(folder.iterdir()) if p.is_file() and p.name != MANIFEST}


def libraries(names: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Name -> installed version of each package, and of Python."""
    return {"python": platform.python_version()} | {name: installed(name) for name in names}


def write(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, indented."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / MANIFEST).write_bytes(text + b"\n")


def read(folder: Path) -> Manifest:
    """The manifest of a version; its files are not verified.

    Raises:
        Corrupt: The manifest is missing or cannot be decoded.
    """
    try:
        found: Manifest = decode((folder / MANIFEST).read_bytes(), Manifest)
    except FileNotFoundError as error:
        raise Corrupt(f"{folder / MANIFEST} is missing: {folder} is not a version; {_REMEDY}") from error
    except BadRecord as error:
        raise Corrupt(f"{folder / MANIFEST} can't be read ({error}); {_REMEDY}") from error
    return found


def verify(folder: Path) -> Manifest:
    """The manifest of a version, after its files were verified against the hashes in it.

    Raises:
        Corrupt: A file is missing or has another sha256; the message names it.
    """
    manifest = read(folder)
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise Corrupt(f"{path} is missing; {_REMEDY}")
        if (found := sha256_of(path)) != expected:
            raise Corrupt(f"{path} has sha256 {found}, but {expected} was written; {_REMEDY}")
    return manifest
