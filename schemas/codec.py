"""The one codec: records to bytes and back (JSON, so that a person can read a topic), and JSON Schema.

python -m schemas.codec            writes schemas/json/<topic>.schema.json from the types
python -m schemas.codec --check    exits with 1, naming the files, if one of them is not what the types say
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from schemas.errors import BadRecord
from schemas.topics import TOPICS
from schemas.versions import Manifest

JSON_DIR = Path(__file__).parent / "json"
_encoder = msgspec.json.Encoder()


@functools.cache
def _decoder(record: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(record)


def encode(record: msgspec.Struct) -> bytes:
    """A record as UTF-8 JSON; equal records give equal bytes."""
    return _encoder.encode(record)


def decode(data: bytes, record: Any) -> Any:
    """Bytes as a record of a type, or of one member of a union.

    Unknown fields are passed over, so that a reader of today reads a record of tomorrow.

    Raises:
        BadRecord: `undecodable`: not JSON, a field is missing or has another type; the message names it.
    """
    try:
        return _decoder(record).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecord("undecodable", f"{error} ({len(data)} bytes)") from error


def json_schemas() -> dict[str, str]:
    """File name -> JSON Schema text, for every topic and for the manifest."""
    records = {topic.name: topic.record for topic in TOPICS} | {"manifest": Manifest}
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
        sys.exit(f"stale: {', '.join(stale)}; run `python -m schemas.codec`" if stale else 0)
    write_json_schemas()
