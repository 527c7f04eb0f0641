"""Strings and lists of events have limits, and an event beyond one is refused where it is encoded."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas.encoding import encode_event
from schemas.errors import BadRecord
from schemas.events import Entity, NodeRef, Relationship, Technique, Template

TECHNIQUE = Technique(id="T1001", feed="f", stix_id="attack-pattern--1", name="One")
TEMPLATE = Template(id="f:x", feed="f", name="X")
ENTITY = Entity(id="tool--1", feed="f", kind="tool", name="X")
NODE = NodeRef(id="T1001", kind="technique")
EDGE = Relationship(id="relationship--1", feed="f", relation="uses", source=NODE, target=NODE)
WORDS = tuple(f"word-{n}" for n in range(20_000))


@pytest.mark.parametrize("event", [TECHNIQUE, TEMPLATE, ENTITY, EDGE])
@pytest.mark.parametrize("field", ["id", "release", "revoked_by"])
def test_no_event_has_a_field_of_its_own_that_is_copied_and_unlimited(event: Any, field: str) -> None:
    with pytest.raises(BadRecord, match=rf"too-long: `{field}` has 800000 characters .* the limit is \d+"):
        encode_event(msgspec.structs.replace(event, **{field: "x" * 800_000}))


@pytest.mark.parametrize(
    ("event", "fields", "message"),
    [
        (TECHNIQUE, {"name": "x" * 400_000}, r"`name` has 400000 characters \('x+' ...\); the limit is 500"),
        (TECHNIQUE, {"tactics": WORDS}, "too-many: `tactics` has 20000 values; the limit is 32"),
        (TECHNIQUE, {"tactics": ("x" * 201,)}, "too-long: a value of `tactics` has 201 characters"),
        (TECHNIQUE, {"platforms": WORDS}, "too-many: `platforms`"),
        (TEMPLATE, {"path": "x" * 600_000}, "too-long: `path`"),
        (TEMPLATE, {"severity": "x" * 201}, "too-long: `severity`"),
        (TEMPLATE, {"tags": WORDS}, "too-many: `tags`"),
        (TEMPLATE, {"cves": WORDS}, "too-many: `cves`"),
        (ENTITY, {"aliases": ("x" * 501,)}, "too-long: a value of `aliases`"),
        (EDGE, {"relation": "x" * 201}, "too-long: `relation`"),
        (EDGE, {"target": msgspec.structs.replace(NODE, tactics=WORDS)}, "too-many: `target.tactics`"),
        (EDGE, {"source": msgspec.structs.replace(NODE, name="x" * 501)}, "too-long: `source.name`"),
    ],
)  # fmt: skip
def test_what_is_too_long_or_too_many_is_named_with_its_size_and_the_limit(
    event: Any, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadRecord, match=message):
        encode_event(msgspec.structs.replace(event, **fields))


def test_a_text_may_be_as_long_as_the_event_allows() -> None:
    assert encode_event(msgspec.structs.replace(TECHNIQUE, text="x" * 800_000))
    assert encode_event(msgspec.structs.replace(TECHNIQUE, name="x" * 500, tactics=WORDS[:32]))
