"""Unpacks gzip while it arrives, and never more at once than it is asked for."""

from __future__ import annotations

import zlib

_GZIP = 16 + zlib.MAX_WBITS


class Gunzip:
    """One stream of gzip: one member, or several one after the other (RFC 1952, section 2.2).

    Attributes:
        is_complete: Whether the last member is complete, its checksum included.
    """

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)

    @property
    def is_complete(self) -> bool:
        """Whether the end of the stream was unpacked."""
        return self._member.eof

    def unpack(self, packed: bytes, max_bytes: int) -> bytes:
        """Unpack the next bytes of the stream.

        Args:
            packed: The next bytes, in any division.
            max_bytes: Of the result, at most, at least 1. What would come after them is lost.

        Raises:
            zlib.error: The stream is not gzip, or damaged.
        """
        unpacked = bytearray()
        while packed and len(unpacked) < max_bytes:
            if self._member.eof:
                self._member = zlib.decompressobj(_GZIP)
            unpacked += self._member.decompress(packed, max_bytes - len(unpacked))
            packed = self._member.unused_data or self._member.unconsumed_tail
        return bytes(unpacked)
