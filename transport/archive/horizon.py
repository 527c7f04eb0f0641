"""Until when a partition can be read from its first offset: by its archive, and by the retention of its topic."""

from __future__ import annotations

import math
from typing import NamedTuple

from kafka import KafkaConsumer

from transport.archive.reading import Archive
from transport.kafka import end_offset, first_offset, read_range


class Horizon(NamedTuple):
    """Until when the records of a partition are kept.

    Attributes:
        archived: Records with offsets below this are in the archive, for ever.
        until_ms: When Kafka may delete the first of the others, ms since 1970 UTC; infinite: never; 0: it has; NaN:
            nobody knows, since the retention may not be read.
    """

    archived: int
    until_ms: float

    def of(self, end: int) -> float:
        """Until when all records below an offset can be read, in the form of `until_ms`."""
        return math.inf if end <= self.archived else self.until_ms


def horizon_of(
    reader: KafkaConsumer, archive: Archive | None, retention_s: float | None, topic: str, partition: int
) -> Horizon:
    """The horizon of a partition. A retention by size is not foreseen: nobody knows when it deletes.

    Args:
        reader: A consumer without a group.
        archive: The archive of the topics; None: there is none.
        retention_s: How long Kafka keeps a record, seconds; None: unknown.
        topic, partition: Which.

    Raises:
        RetryLater: Kafka or the storage of the archive does not answer.
        Corrupt: The manifest of the archive is damaged.
    """
    begins, ends = archive.covered(topic, partition) if archive else (0, 0)
    archived = ends if begins == 0 else 0
    if first_offset(reader, topic, partition) > archived:
        return Horizon(archived, 0.0)
    if retention_s is None:
        return Horizon(archived, math.nan)
    end = end_offset(reader, topic, partition)
    if math.isinf(retention_s) or archived >= end:
        return Horizon(archived, math.inf)
    for messages in read_range(reader, topic, partition, archived, end):
        return Horizon(archived, messages[0].timestamp + retention_s * 1000)
    return Horizon(archived, math.inf)
