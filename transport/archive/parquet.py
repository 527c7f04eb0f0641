"""Records of a partition as a Parquet file in memory, and back: offset, time, key, value and headers as they were.

Any tool that reads Parquet can read the files: `duckdb -c "select * from 'archive/*/*/*/*.parquet'"`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from schemas.errors import BadConfiguration

GROUP_RECORDS = 5_000
GROUP_BYTES = 16 * 1024 * 1024
"""Records, and bytes of keys and values, at which a row group ends: a reader of one record decodes one of them."""
BATCH = 1_000
"""Records in a batch of `records_in`."""


class ArchivedRecord(msgspec.Struct):
    """A record of an archive; it has the fields of a kafka-python record that are used."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise BadConfiguration(
            f'the archive needs pyarrow ({error}): pip install "sx9-ml-models[archive]"'
        ) from error
    return pyarrow


def size_of(message: Any) -> int:
    """Bytes of the key, the value and the headers of a message."""
    return len(message.key or b"") + len(message.value or b"") + sum(len(v or b"") for _, v in message.headers)


class ParquetBuffer:
    """A Parquet file that is written to memory, compressed with zstd.

    Args:
        metadata: Kept in the file, for people who find it alone.

    Attributes:
        records: The number of records so far.
        bytes: Of their keys, values and headers.
    """

    def __init__(self, metadata: dict[str, str]) -> None:
        self._arrow = _pyarrow()
        self._schema = _schema(self._arrow).with_metadata(metadata)
        self._sink = self._arrow.BufferOutputStream()
        self._writer = self._arrow.parquet.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._columns: tuple[list[Any], ...] = tuple([] for _ in self._schema)
        self._group_bytes = 0
        self.records = 0
        self.bytes = 0

    def add(self, message: Any) -> None:
        """Append a message of kafka-python, or an `ArchivedRecord`."""
        offsets, timestamps, kinds, keys, values, headers = self._columns
        offsets.append(message.offset)
        timestamps.append(message.timestamp)
        kinds.append(message.timestamp_type)
        keys.append(message.key)
        values.append(message.value)
        headers.append(list(message.headers))
        size = size_of(message)
        self._group_bytes += size
        self.records += 1
        self.bytes += size
        if len(offsets) >= GROUP_RECORDS or self._group_bytes >= GROUP_BYTES:
            self._flush()

    def finish(self) -> bytes:
        """The whole file. Nothing can be added after it."""
        self._flush()
        self._writer.close()
        data: bytes = self._sink.getvalue().to_pybytes()
        return data

    def _flush(self) -> None:
        if self._columns[0]:
            arrays = [self._arrow.array(c, f.type) for c, f in zip(self._columns, self._schema, strict=True)]
            self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        self._group_bytes = 0
        for column in self._columns:
            column.clear()


def records_in(data: bytes, topic: str, partition: int, start: int, end: int) -> Iterator[Sequence[ArchivedRecord]]:
    """The records of a file with offsets in `[start, end)`, in batches; other row groups are not decoded.

    Raises:
        ValueError: The bytes are no such file.
    """
    arrow = _pyarrow()
    try:
        file = arrow.parquet.ParquetFile(arrow.BufferReader(data))
        for number in range(file.num_row_groups):
            offsets = file.metadata.row_group(number).column(0).statistics
            if offsets is not None and (offsets.max < start or offsets.min >= end):
                continue
            for batch in file.iter_batches(batch_size=BATCH, row_groups=[number]):
                found = [r for r in _records(batch, topic, partition) if start <= r.offset < end]
                if found:
                    yield found
    except (arrow.ArrowException, KeyError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _records(batch: Any, topic: str, partition: int) -> Iterator[ArchivedRecord]:
    names = ("offset", "timestamp", "timestamp_type", "key", "value", "headers")
    for offset, timestamp, kind, key, value, headers in zip(
        *(batch.column(name).to_pylist() for name in names), strict=True
    ):
        pairs = [(header["key"], header["value"]) for header in headers]
        yield ArchivedRecord(topic, partition, offset, timestamp, kind, key, value, pairs)


def _schema(arrow: Any) -> Any:
    header = arrow.struct([arrow.field("key", arrow.string(), nullable=False), ("value", arrow.binary())])
    return arrow.schema(
        [
            arrow.field("offset", arrow.int64(), nullable=False),
            arrow.field("timestamp", arrow.int64(), nullable=False),
            arrow.field("timestamp_type", arrow.int8(), nullable=False),
            ("key", arrow.binary()),
            ("value", arrow.binary()),
            arrow.field("headers", arrow.list_(header), nullable=False),
        ]
    )
