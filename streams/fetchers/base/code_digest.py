"""Digest of the source code of modules, to recognise files that other code has made."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path


def code_digest(modules: Iterable[str]) -> str:
    """16 hex digits that change with the source of any of the modules.

    Args:
        modules: Dotted names; the order makes no difference.
    """
    state = hashlib.blake2b(digest_size=8)
    for module in sorted(set(modules)):
        state.update(module_digest(module))
    return state.hexdigest()


@functools.cache
def module_digest(module: str) -> bytes:
    """Digest of the name and the source of one module."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no source of module {module}")
    return hashlib.blake2b(module.encode() + b"\0" + Path(spec.origin).read_bytes(), digest_size=16).digest()
