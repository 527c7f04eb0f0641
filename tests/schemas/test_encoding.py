"""An encoded event: its hash is that of the event without its release, whatever its fields hold."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import encode
from schemas.encoding import decode_event, encode_event, without_fields
from schemas.errors import BadRecord
from schemas.events import MAX_EVENT_BYTES, Entity, Event, NodeRef, Relationship, Technique, Template

TRICKY = (
    '"',
    "\\",
    '\\"',
    ',"release":"x"',
    '","release":"',
    "release",
    "}",
    "{",
    ',"source":{',
    "\x00",
    "é",
    "👾",
)
TEXTS = st.text(max_size=12) | st.lists(st.sampled_from(TRICKY), max_size=6).map("".join)
TIMES = st.just(0) | st.integers(0, 2**62)
STATUSES = st.sampled_from(("active", "deprecated", "revoked"))
COMMON = {
    "id": TEXTS, "feed": TEXTS, "release": TEXTS, "created_ms": TIMES, "modified_ms": TIMES, "status": STATUSES,
    "revoked_by": TEXTS, "text": TEXTS,
}  # fmt: skip
TUPLES = st.lists(TEXTS, max_size=2).map(tuple)
NODES = st.builds(NodeRef, id=TEXTS, kind=TEXTS, name=TEXTS, tactics=TUPLES, status=STATUSES)
EVENTS = st.one_of(
    st.builds(Technique, **COMMON, stix_id=TEXTS, name=TEXTS, tactics=TUPLES, domain=TEXTS),
    st.builds(Template, **COMMON, name=TEXTS, severity=TEXTS, tags=TUPLES, path=TEXTS),
    st.builds(Entity, **COMMON, kind=TEXTS, name=TEXTS, aliases=TUPLES),
    st.builds(Relationship, **COMMON, relation=TEXTS, source=NODES, target=NODES, domain=TEXTS),
)


def hash_by_encoding_again(event: Event) -> str:
    """The definition of the content hash: the BLAKE2b of the event encoded without its release."""
    bare = msgspec.structs.replace(event, release="")
    return hashlib.blake2b(msgspec.json.encode(bare), digest_size=16).hexdigest()


@settings(max_examples=200, deadline=None)
@given(EVENTS)
def test_the_content_hash_is_the_hash_of_the_event_encoded_without_its_release(event: Any) -> None:
    encoded = encode_event(event)
    assert encoded.content_hash == hash_by_encoding_again(event)
    assert encoded.value == encode(event)
    assert decode_event(encoded.value) == encoded


@settings(max_examples=200, deadline=None)
@given(EVENTS)
def test_cutting_fields_gives_the_bytes_of_an_event_without_them(event: Any) -> None:
    value = encode(event)
    bare = encode(msgspec.structs.replace(event, release="", modified_ms=0))
    assert without_fields(value, "release", "modified_ms") == bare
    if isinstance(event, Relationship):
        rest = msgspec.json.decode(without_fields(bare, "source", "target"))
        whole = msgspec.json.decode(bare)
        assert rest == {name: field for name, field in whole.items() if name not in ("source", "target")}


def test_an_event_that_does_not_fit_a_message_is_rejected_with_the_limit() -> None:
    event = Entity(id="x", feed="f", kind="tool", name="x")
    room = MAX_EVENT_BYTES - len(encode(msgspec.structs.replace(event, text="x"))) + 1
    assert len(encode_event(msgspec.structs.replace(event, text="x" * room)).value) == MAX_EVENT_BYTES
    with pytest.raises(BadRecord, match=f"too-large: .* the limit is {MAX_EVENT_BYTES}"):
        encode_event(msgspec.structs.replace(event, text="x" * (room + 1)))
