"""A CSV file as mappings, one per row, packed with gzip or not."""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Iterator

from schemas.errors import BadRecord
from streams.fetchers.base import limits
from streams.fetchers.sources.gunzip import Gunzip

MODULES = (__name__,)
"""What a feed that reads CSV names in its `modules`."""

_GZIP = b"\x1f\x8b"


def plain_text(data: bytes) -> str:
    """A file as text, unpacked if it is packed.

    Raises:
        BadRecord: `bad-gzip`, `too-large` or `not-text`.
    """
    if data.startswith(_GZIP):
        data = _unpacked(data)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRecord("not-text", f"not UTF-8: {error}") from error


def rows(text: str) -> Iterator[dict[str, str]]:
    """The rows of a CSV file, by the names in its first line.

    >>> list(rows("cve,epss\\nCVE-2024-1,0.5\\n"))
    [{'cve': 'CVE-2024-1', 'epss': '0.5'}]

    Raises:
        BadRecord: `bad-csv`; `too-many`: over `limits.MAX_ITEMS` rows.
    """
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        names = next(reader, [])
        for number, row in enumerate(reader, 1):
            if number > limits.MAX_ITEMS:
                raise BadRecord("too-many", f"the table has over {limits.MAX_ITEMS} rows, the limit")
            yield dict(zip(names, row, strict=False))
    except csv.Error as error:
        raise BadRecord("bad-csv", f"line {reader.line_num}: {error}") from error


def _unpacked(data: bytes) -> bytes:
    gunzip = Gunzip()
    try:
        unpacked = gunzip.unpack(data, limits.MAX_RESOURCE_BYTES + 1)
    except zlib.error as error:
        raise BadRecord("bad-gzip", str(error)) from error
    if len(unpacked) > limits.MAX_RESOURCE_BYTES:
        raise BadRecord("too-large", f"over {limits.MAX_RESOURCE_BYTES} bytes unpacked, the limit")
    if not gunzip.is_complete:
        raise BadRecord("bad-gzip", f"cut off after {len(data)} bytes")
    return unpacked
