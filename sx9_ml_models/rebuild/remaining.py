"""The journal that a rebuild reads: up to an offset, and without what is taken out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from schemas.exclusions import Exclusion, FeedOf
from schemas.journal import Example, LineageChange, Record, Tick
from transport.partition_log import PartitionLog, records_between
from transport.records import ConsumerRecord, decoded


def end_at(log: PartitionLog, until_ms: int) -> int:
    """The offset of the first tick after a time; the end of the log if there is none."""
    for message, record in records_between(log, Record, 0, log.end()):
        if isinstance(record, Tick) and record.time_ms > until_ms:
            return int(message.offset)
    return log.end()


class RemainingJournal:
    """A journal without some examples, whose other records keep their offsets: a `PartitionLog`.

    Args:
        log: The journal.
        end: Offset at which it ends here.
        exclusions: What is taken out.
        feed_of: For exclusions of feeds.
        lifted: What counts again although an earlier lineage change left it out. That change is taken out too, for
            whoever reads it would leave out what it says.

    Attributes:
        excluded: Journal offsets of the examples that were taken out of what was read so far.
        lifted: Journal offsets of those that count again.
    """

    def __init__(
        self,
        log: PartitionLog,
        end: int,
        exclusions: Sequence[Exclusion],
        feed_of: FeedOf,
        lifted: Sequence[Exclusion] = (),
    ) -> None:
        self.topic = log.topic
        self.partition = log.partition
        self.excluded: set[int] = set()
        self.lifted: set[int] = set()
        self._log = log
        self._end = end
        self._exclusions = exclusions
        self._lifted = lifted
        self._feed_of = feed_of

    def end(self) -> int:
        """See `PartitionLog.end`."""
        return self._end

    def cut(self, end: int) -> None:
        """End earlier."""
        self._end = min(self._end, end)

    def read(self, start: int, end: int) -> Iterator[Sequence[ConsumerRecord]]:
        """See `PartitionLog.read`."""
        for messages in self._log.read(start, min(end, self._end)):
            if not self._exclusions and not self._lifted:
                yield messages
                continue
            records = decoded(messages, Record, self.topic, self.partition)
            left = [message for message, record in records if self._stays(message.offset, record)]
            if left:
                yield left

    def _stays(self, offset: int, record: Record) -> bool:
        if isinstance(record, LineageChange):
            return not self._lifted
        if not isinstance(record, Example):
            return True
        if any(each.matches(record, self._feed_of) for each in self._exclusions):
            self.excluded.add(offset)
            return False
        if any(each.matches(record, self._feed_of) for each in self._lifted):
            self.lifted.add(offset)
        return True

    def records(self, end: int | None = None) -> Iterator[tuple[int, Record]]:
        """(offset, record) of what is left before an offset; None: of all that is left."""
        for message, record in records_between(self, Record, 0, self._end if end is None else end):
            yield message.offset, record
