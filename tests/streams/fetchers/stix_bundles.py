"""Small STIX bundles, made up for the tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CREATED, MODIFIED = "2020-01-01T00:00:00.000Z", "2021-02-03T04:05:06.789Z"
CREATED_MS, MODIFIED_MS = 1_577_836_800_000, 1_612_325_106_789

Object = dict[str, Any]


def stix_id(kind: str, number: int) -> str:
    """A STIX id that is easy to read in a failure."""
    return f"{kind}--00000000-0000-4000-8000-{number:012d}"


def thing(kind: str, number: int, name: str = "", **fields: Any) -> Object:
    """Any object."""
    found = {"type": kind, "id": stix_id(kind, number), "created": CREATED, "modified": MODIFIED}
    return found | ({"name": name} if name else {}) | fields


def reference(external_id: str, source: str = "mitre-attack") -> list[Mapping[str, str]]:
    """External references with the one id that counts."""
    return [
        {"source_name": "a report", "url": "https://x.test"},
        {"source_name": source, "external_id": external_id},
    ]


def technique(number: int, name: str = "", *, tactics: tuple[str, ...] = ("execution",), **fields: Any) -> Object:
    """T1000 plus a number."""
    found = {
        "description": f"Adversaries may do {number}.",
        "external_references": reference(f"T{1000 + number}"),
        "kill_chain_phases": [{"kill_chain_name": "mitre-attack", "phase_name": t} for t in tactics],
    }
    return thing("attack-pattern", number, name or f"Technique {number}", **(found | fields))


def group(number: int, **fields: Any) -> Object:
    """A group."""
    return thing("intrusion-set", number, f"Group {number}", **fields)


def relationship(number: int, source: Object, target: Object, relation: str = "uses", **fields: Any) -> Object:
    """An edge between two objects."""
    ends = {"source_ref": source["id"], "target_ref": target["id"], "relationship_type": relation}
    return thing("relationship", number, **({"description": f"Sentence {number}."} | ends | fields))


def bundle(*objects: Any) -> bytes:
    """A bundle of anything."""
    return json.dumps({"type": "bundle", "id": "bundle--1", "objects": objects}).encode()


def ordinary(size: int = 3) -> list[Object]:
    """Techniques, a group, and a relationship to each technique: `2 * size + 1` events."""
    techniques, one = [technique(n) for n in range(size)], group(1)
    return [*(relationship(n, one, t) for n, t in enumerate(techniques)), one, *techniques]


def written(folder: Path, *objects: Any, name: str = "enterprise-attack-15.1.json") -> str:
    """A bundle as a file; its path."""
    path = folder / name
    path.write_bytes(bundle(*objects))
    return str(path)
