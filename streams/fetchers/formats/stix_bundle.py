"""A STIX bundle taken apart: the bytes of each object by itself, so that one bad object spoils no other.

    bytes ──msgspec, one pass──> raw objects
      └─ it fails (nesting bomb, broken literal) ──by brackets──> raw objects, the bad one among them

A bundle whose own brackets don't close is refused whole: half a bundle would look like a feed that lost
half of its objects. So is one with more objects than the limit; it is counted before it is taken apart.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence

import msgspec

from schemas.errors import BadRecord
from streams.fetchers.base import limits


class _Envelope(msgspec.Struct):
    type: str
    objects: list[msgspec.Raw]


_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[{}\[\],]', re.DOTALL)
"""A string, or a bracket or a comma outside of strings. A string that is not closed is read to the end, once."""
_envelope = msgspec.json.Decoder(_Envelope)


def raw_objects(data: bytes) -> Sequence[bytes | memoryview]:
    """The JSON text of each object of a bundle, in order; the objects themselves are not checked.

    Args:
        data: The bundle, UTF-8 JSON; a byte order mark before it is passed over.

    Raises:
        BadRecord: `not-a-bundle`: not JSON, cut off, or without `"type": "bundle"` and a list of `objects`;
            `too-many`: more than `limits.MAX_BUNDLE_OBJECTS`.
    """
    if (commas := data.count(b",")) > limits.MAX_BUNDLE_COMMAS:
        raise _too_many(f"{commas} commas", limits.MAX_BUNDLE_COMMAS)
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        objects = _checked(data).objects
        _check_number(len(objects))
        return [memoryview(raw) for raw in objects]
    except (msgspec.ValidationError, UnicodeDecodeError) as error:
        raise BadRecord("not-a-bundle", f"{error} ({len(data)} bytes)") from error
    except (msgspec.DecodeError, RecursionError) as error:
        return _by_brackets(data, error)


def _checked(data: bytes) -> _Envelope:
    envelope = _envelope.decode(data)
    if envelope.type != "bundle":
        raise BadRecord("not-a-bundle", f'the type is "{envelope.type:.50}", not "bundle" ({len(data)} bytes)')
    return envelope


def _check_number(objects: int) -> None:
    if objects > limits.MAX_BUNDLE_OBJECTS:
        raise _too_many(f"{objects} objects", limits.MAX_BUNDLE_OBJECTS)


def _too_many(found: str, limit: int) -> BadRecord:
    return BadRecord("too-many", f"the bundle has {found}; the limit is {limit}: divide it into several feeds")


def _by_brackets(data: bytes, why: Exception) -> Sequence[bytes]:
    spans = list(_elements(data))
    start, end = (spans[0][0], spans[-1][1]) if spans else (0, 0)
    try:
        _checked(data[:start] + data[end:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecord("not-a-bundle", f"{why} ({len(data)} bytes)") from error
    return [data[slice(*span)] for span in spans]


def _elements(data: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each element of the list `objects`; nothing where the list is not closed."""
    depth, key, start = 0, b"", -1
    found = []
    for token in _TOKEN.finditer(data):
        first = data[token.start()]
        if first == _QUOTE:
            key = token.group() if depth == 1 else key
        elif first in _OPEN:
            depth += 1
            if depth == 2 and start < 0 and key == b'"objects"':
                start = token.end()
        elif start >= 0 and depth == 2:  # a comma between elements, or the end of the list
            found.append((start, token.start()))
            _check_number(len(found))
            start = token.end()
            if first != _COMMA:
                yield from found
                return
        elif first in _CLOSE:
            depth -= 1


_QUOTE, _COMMA = ord('"'), ord(",")
_OPEN, _CLOSE = b"{[", b"}]"
