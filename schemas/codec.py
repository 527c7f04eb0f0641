"""The codec: records to bytes and back. Records are JSON, so that people can read a topic."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from schemas.errors import BadRecord

MAX_RECORD_BYTES = 900_000
"""A record must fit a Kafka message (1 MiB by default) with its key and headers."""

_encoder = msgspec.json.Encoder()


@functools.cache
def _decoder(record: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(record)


def encode(record: msgspec.Struct) -> bytes:
    """A record as UTF-8 JSON; equal records give equal bytes."""
    return _encoder.encode(record)


def encode_message(record: msgspec.Struct) -> bytes:
    """A record as the value of a message.

    Raises:
        BadRecord: `too-large`: the encoding is longer than `MAX_RECORD_BYTES`.
    """
    value = encode(record)
    if len(value) > MAX_RECORD_BYTES:
        name = type(record).__name__.lower()
        raise BadRecord("too-large", f"the {name} has {len(value)} bytes; the limit is {MAX_RECORD_BYTES}")
    return value


def decode(data: bytes | None, record: Any) -> Any:
    """Bytes as a record of a type, or of one member of a union.

    Unknown fields are passed over, so that a reader of today reads a record of tomorrow.

    Raises:
        BadRecord: `no-value`: there are no bytes, as in a message without a value.
            `undecodable`: not JSON, a field is missing or has another type; the message names it.
    """
    if data is None:
        raise BadRecord("no-value", "a message without a value holds no record")
    try:
        return _decoder(record).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecord("undecodable", f"{error} ({len(data)} bytes)") from error
