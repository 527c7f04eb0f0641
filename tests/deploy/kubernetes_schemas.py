"""Validates Kubernetes objects, JSON on the standard input, strictly: `python kubernetes_schemas.py VERSION`.

It runs in the venv of `make schemas`, without our packages. It prints one line for each object: its kind, its name
and `valid`, `no schema` (it is of an extension), or what is wrong.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import kubernetes_validate  # type: ignore[import-not-found]


def verdict(found: dict[str, Any], version: str) -> str:
    """What the schema of an object says of it."""
    try:
        kubernetes_validate.validate(found, version, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        return "no schema"
    except kubernetes_validate.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    return "valid"


if __name__ == "__main__":
    for each in json.load(sys.stdin):
        print(each["kind"], each["metadata"]["name"], verdict(each, sys.argv[1]))
