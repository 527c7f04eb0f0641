"""Validates Kubernetes objects, JSON on the standard input, strictly: `python kubernetes_schemas.py VERSION`.

It runs in the venv of `make schemas`, without our packages. It prints one line for each object: its kind, its name
and `valid`, `no schema`, or what is wrong. For objects of extensions, `extension_schemas` has the schemas.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import kubernetes_validate  # type: ignore[import-not-found]
from extension_schemas import SCHEMAS  # type: ignore[import-not-found]


def verdict(found: dict[str, Any], version: str) -> str:
    """What the schema of an object says of it."""
    try:
        if found["kind"] in SCHEMAS:
            jsonschema.validate(found, SCHEMAS[found["kind"]])
        else:
            kubernetes_validate.validate(found, version, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        return "no schema"
    except (kubernetes_validate.ValidationError, jsonschema.ValidationError) as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    return "valid"


if __name__ == "__main__":
    for each in json.load(sys.stdin):
        print(each["kind"], each["metadata"]["name"], verdict(each, sys.argv[1]))
