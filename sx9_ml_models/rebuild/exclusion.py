"""What a rebuild takes out of a journal, and how far it reads.

feed=NAME                             what was learnt from events of a feed
entity=ID                             the examples, the node and the links of a technique, group, rule, ...
source=TOPIC[/PARTITION[/OFFSET]]     what was learnt from the events of a topic, or from one event
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from schemas.errors import BadConfiguration
from schemas.journal import Example, Record, Source, Tick
from transport.partition_log import PartitionLog, records_between
from transport.records import ConsumerRecord, decoded

FORMS = "feed=NAME, entity=ID or source=TOPIC[/PARTITION[/OFFSET]]"
FeedOf = Callable[[Source], str]
"""The feed of the event at a position; empty if it is not known."""


class Exclusion(msgspec.Struct, frozen=True):
    """One thing to take out; see the module."""

    kind: str
    name: str

    def matches(self, example: Example, feed_of: FeedOf) -> bool:
        """Whether an example comes from it."""
        if self.kind == "feed":
            return feed_of(example.source) == self.name
        if self.kind == "entity":
            return self.name in _entities(example)
        source = example.source
        return f"{source.topic}/{source.partition}/{source.offset}/".startswith(f"{self.name.rstrip('/')}/")

    def __str__(self) -> str:
        return f"{self.kind}={self.name}"


def parse_exclusions(arguments: Sequence[str]) -> tuple[Exclusion, ...]:
    """The exclusions that the command line names, sorted.

    Raises:
        BadConfiguration: One of them has no known form.

    >>> [str(found) for found in parse_exclusions(["entity=T1059"])]
    ['entity=T1059']
    """
    found = []
    for argument in arguments:
        kind, _, name = argument.partition("=")
        if kind not in ("feed", "entity", "source") or not name:
            raise BadConfiguration(f"--exclude {argument}: must be {FORMS}")
        found.append(Exclusion(kind, name))
    return tuple(sorted(found, key=str))


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

    Attributes:
        excluded: Journal offsets of the examples that were taken out of what was read so far.
    """

    def __init__(self, log: PartitionLog, end: int, exclusions: Sequence[Exclusion], feed_of: FeedOf) -> None:
        self.topic = log.topic
        self.partition = log.partition
        self.excluded: set[int] = set()
        self._log = log
        self._end = end
        self._exclusions = exclusions
        self._feed_of = feed_of

    def end(self) -> int:
        """See `PartitionLog.end`."""
        return self._end

    def read(self, start: int, end: int) -> Iterator[Sequence[ConsumerRecord]]:
        """See `PartitionLog.read`."""
        for messages in self._log.read(start, min(end, self._end)):
            if not self._exclusions:
                yield messages
                continue
            left = []
            for message, record in decoded(messages, Record, self.topic, self.partition):
                if isinstance(record, Example) and any(e.matches(record, self._feed_of) for e in self._exclusions):
                    self.excluded.add(message.offset)
                else:
                    left.append(message)
            if left:
                yield left

    def records(self) -> Iterator[tuple[int, Record]]:
        """(offset, record) of all that is left."""
        for message, record in records_between(self, Record, 0, self._end):
            yield message.offset, record


def _entities(example: Example) -> set[str]:
    """Ids of what an example is about: those in its key and its group, its node, the ends of its link."""
    found = {example.key, example.key.partition(":")[2], example.group.partition(":")[2]}
    if example.node:
        found.add(example.node.id)
    if example.link:
        found |= {example.link.source, example.link.target}
    return found - {""}
