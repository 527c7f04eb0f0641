"""An event with its encoding, so that each event is encoded once on its way from the parser to the broker.

event ──encode_event──> value (JSON bytes) ──> size check, content hash, digests of the diff, message value

The hashes leave out some fields. They are computed from the encoded bytes with those fields cut out, which gives
the same bytes as encoding an event whose fields have their default values, because defaults are omitted.
"""

from __future__ import annotations

import functools
import hashlib
import re

import msgspec

from schemas.codec import decode, encode_message
from schemas.events import Event
from schemas.limits import check_limits

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_VALUE = re.compile(rb"-?\d+|" + _STRING + rb'|\{[^"{}]*(?:' + _STRING + rb'[^"{}]*)*\}')
"""An integer, a string, or an object without nested objects."""


class EncodedEvent(msgspec.Struct, frozen=True):
    """An event and its encoding.

    Attributes:
        event: The event.
        value: Its UTF-8 JSON, as it is in the message.
    """

    event: Event
    value: bytes

    @property
    def content_hash(self) -> str:
        """32 hex digits, equal for equal content, whichever release carried it.

        BLAKE2b of the encoding without `release`; it is the CloudEvents `id` of the event.
        """
        return hashlib.blake2b(without_fields(self.value, "release"), digest_size=16).hexdigest()


def encode_event(event: Event) -> EncodedEvent:
    """Encode an event and check its size and that of its parts.

    Raises:
        BadRecord: `too-large`: the encoding is longer than a message may be; `too-long` or `too-many`: a string
            or a list is beyond its limit in `schemas.limits`.
    """
    check_limits(event)
    return EncodedEvent(event, encode_message(event))


def decode_event(value: bytes) -> EncodedEvent:
    """The event of a message value.

    Raises:
        BadRecord: `undecodable`.
    """
    return EncodedEvent(decode(value, Event), value)


@functools.cache
def _key(name: str) -> bytes:
    return f',"{name}":'.encode()


def without_fields(value: bytes, *names: str) -> bytes:
    """Cut top-level fields out of an encoded event; a field that is missing changes nothing.

    A quotation mark inside a JSON string is escaped, so `,"name":` is found only where a field begins. The first
    field can't be cut, nor one whose name a nested record uses too.

    Args:
        value: The encoding of an event.
        names: Fields that hold an integer, a string, or an object without nested objects.

    >>> without_fields(b'{"type":"entity","release":"15.1","modified_ms":7,"name":"x"}', "release", "modified_ms")
    b'{"type":"entity","name":"x"}'
    """
    for name in names:
        key = _key(name)
        start = value.find(key)
        found = _VALUE.match(value, start + len(key)) if start >= 0 else None
        if found is not None:
            value = value[:start] + value[found.end() :]
    return value
