"""The contract: generated files are current."""

from __future__ import annotations

from tools.json_schemas import stale_json_schemas


def test_the_json_schemas_are_what_the_types_say() -> None:
    assert stale_json_schemas() == []
