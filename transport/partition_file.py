"""A partition of a topic as a file of JSON lines, which is read like the partition: for work without a broker.

    {"offset":7,"timestamp":1795751891779,"value":{"type":"tick","time_ms":1795751891000}}

The lines are in the order of their offsets; offsets may be missing. `timestamp` is the broker time in ms since 1970
UTC, and `value` the record.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from schemas.errors import Corrupt
from transport.partition_log import PartitionLog, records_between
from transport.records import ConsumerRecord

BATCH = 1_000
"""Messages in a batch of `read`."""
_BLOCK_BYTES = 4_000_000
_TAIL_BYTES = 2_000_000
"""More than the longest line."""
_KEY = re.compile(rb'"key"\s*:\s*"([^"\\]*)(["\\])')
"""A field `key`, up to the end of its value or to the first escape in it. In a text, its quotation marks would be
escaped."""


class FileMessage(msgspec.Struct):
    """A message of a file; see `transport.records.ConsumerRecord`."""

    offset: int
    timestamp: int
    value: bytes | None


class _Line(msgspec.Struct, frozen=True):
    offset: int
    timestamp: int
    value: msgspec.Raw


class _Offset(msgspec.Struct, frozen=True):
    offset: int


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_offset = msgspec.json.Decoder(_Offset).decode


class PartitionFile:
    """A partition in a file; it is a `transport.partition_log.PartitionLog`.

    Args:
        path: The file.
        topic: Name of the topic that the records are of.
        partition: Number of the partition.

    Raises:
        Corrupt: The file can't be read, or a line of it is no message. So does every method.
    """

    def __init__(self, path: Path, topic: str, partition: int) -> None:
        self.path = path
        self.topic = topic
        self.partition = partition
        try:
            self.bytes = path.stat().st_size
            with path.open("rb") as file:
                self._end = self._last_offset(file) + 1
        except OSError as error:
            raise Corrupt(f"{path}: {error.strerror}; name a file that `sx9 export journal` has written") from error

    def end(self) -> int:
        """The offset after the last line; 0 if there is none."""
        return self._end

    def read(self, start: int, end: int) -> Iterator[Sequence[ConsumerRecord]]:
        """The messages with offsets in `[start, end)`, in order, in batches."""
        batch: list[ConsumerRecord] = []
        with self.path.open("rb") as file:
            file.seek(self._position_of(file, start))
            for line in file:
                message = self._message(line)
                if message.offset >= end:
                    break
                if message.offset >= start:
                    batch.append(message)
                if len(batch) >= BATCH:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def containing(self, texts: Collection[bytes]) -> Iterator[ConsumerRecord]:
        """The messages whose lines have one of some texts, in order. The file is read once, and only these decoded.

        Args:
            texts: As they are in the file, without line breaks.
        """
        with self.path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                block += file.readline()
                for start, end in sorted({line for text in texts for line in _lines_with(text, block)}):
                    yield self._message(block[start:end])

    def with_keys(self, keys: Collection[str], start: int, end: int) -> Iterator[ConsumerRecord]:
        """The messages with offsets in `[start, end)` that have one of some values in a field `key`, in order.

        Only these are decoded. Some others may be among them: those with a key that has an escape.

        Args:
            keys: The values.
            start: First offset.
            end: End offset, exclusive.
        """
        wanted = {key.encode() for key in keys}
        with self.path.open("rb") as file:
            last = self._position_of(file, end) if end < self._end else self.bytes
            file.seek(self._position_of(file, start))
            while file.tell() <= last + _TAIL_BYTES and (block := file.read(_BLOCK_BYTES)):
                block += file.readline()
                places = [f.start() for f in _KEY.finditer(block) if f[2] == b"\\" or f[1] in wanted]
                for line_start, line_end in dict.fromkeys(_line_at(place, block) for place in places):
                    message = self._message(block[line_start:line_end])
                    if start <= message.offset < end:
                        yield message

    def _position_of(self, file: BinaryIO, start: int) -> int:
        """Where a line begins, at or before the first line with an offset of `start` or more."""
        low, high = 0, self.bytes  # the line that begins at `low` is before the one that is sought, or is the first
        while high - low > _TAIL_BYTES and start > 0:
            middle = (low + high) // 2
            file.seek(middle)
            file.readline()
            at = file.tell()
            line = file.readline()
            if line and at < high and self._offset(line) < start:
                low = at
            else:
                high = middle
        return low

    def _last_offset(self, file: BinaryIO) -> int:
        file.seek(max(0, self.bytes - _TAIL_BYTES))
        lines = file.read().splitlines()
        return self._offset(lines[-1]) if lines else -1

    def _message(self, line: bytes) -> FileMessage:
        try:
            offset, timestamp, value = msgspec.structs.astuple(_decode_line(line))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._bad_line(line, error) from error
        return FileMessage(offset, timestamp, None if value == b"null" else bytes(value))

    def _offset(self, line: bytes) -> int:
        try:
            return _decode_offset(line).offset
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._bad_line(line, error) from error

    def _bad_line(self, line: bytes, error: Exception) -> Corrupt:
        return Corrupt(
            f"{self.path}: {error} in the line {line[:80]!r}: a line is "
            '{"offset":0,"timestamp":0,"value":{...}}, as `sx9 export journal` writes it'
        )


def _lines_with(text: bytes, block: bytes) -> Iterator[tuple[int, int]]:
    """Where the lines of a block begin and end that have a text."""
    at = block.find(text)
    while at >= 0:
        start, end = _line_at(at, block)
        yield start, end
        at = block.find(text, end)


def _line_at(at: int, block: bytes) -> tuple[int, int]:
    """Where the line begins and ends that has a position."""
    return block.rfind(b"\n", 0, at) + 1, block.find(b"\n", at) + 1 or len(block)


def write_partition(path: Path, log: PartitionLog, record_type: Any) -> int:
    """Write the records of a partition to a file that `PartitionFile` reads.

    Args:
        path: The file, which is replaced when all is written; missing folders are created.
        log: The partition.
        record_type: The type of its records. Messages that hold none are passed over; see `transport.records`.

    Returns:
        The number of records written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    written = 0
    try:
        with partial.open("wb") as file:
            for message, _ in records_between(log, record_type, 0, log.end()):
                head = b'{"offset":%d,"timestamp":%d,"value":' % (message.offset, message.timestamp)
                file.write(head + (message.value or b"").replace(b"\n", b" ") + b"}\n")
                written += 1
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return written
