"""Writes the JSON Schema files of the contract, one for each topic and one for each manifest.

python -m tools.json_schemas            writes schemas/json/<topic>.schema.json from the types
python -m tools.json_schemas --check    exits with 1, naming the files, if one of them differs from the types
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from schemas.archive import ArchiveManifest
from schemas.topics import TOPICS
from schemas.versions import Manifest

JSON_DIR = Path(__file__).parents[1] / "schemas" / "json"


def json_schemas() -> dict[str, str]:
    """File name -> JSON Schema text, for every topic and for each manifest."""
    records = {topic.name: topic.record for topic in TOPICS} | {"manifest": Manifest, "archive": ArchiveManifest}
    return {f"{name}.schema.json": _schema_text(record) for name, record in records.items()}


def _schema_text(record: Any) -> str:
    return json.dumps(msgspec.json.schema(record), indent=2, sort_keys=True) + "\n"


def write_json_schemas() -> None:
    """Write `schemas/json/*.schema.json` and remove what no type makes any more."""
    texts = json_schemas()
    for path in JSON_DIR.glob("*.schema.json"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (JSON_DIR / name).write_text(text, encoding="utf-8")


def stale_json_schemas() -> list[str]:
    """Names of the files in `schemas/json` that are missing, different or made by no type."""
    texts = json_schemas()
    files = {path.name: path.read_text(encoding="utf-8") for path in JSON_DIR.glob("*.schema.json")}
    return sorted(name for name in texts.keys() | files.keys() if texts.get(name) != files.get(name))


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        stale = stale_json_schemas()
        sys.exit(f"stale: {', '.join(stale)}; run `python -m tools.json_schemas`" if stale else 0)
    write_json_schemas()
