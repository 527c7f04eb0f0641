"""Small journals that a tiny model can learn, and the triggers that name their parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from typing import Any, NamedTuple

from schemas.codec import encode
from schemas.journal import Example, Record, Source, held_out
from schemas.topics import JOURNAL
from schemas.windows import Span, Trigger

MODEL = "distilbert-mitre"
WORDS = {
    "collection": ("archive", "email", "file", "download"),
    "credential-access": ("password", "credential", "hash", "token"),
    "execution": ("powershell", "script", "shell", "command"),
    "exfiltration": ("upload", "exfiltrate", "traffic", "cloud"),
    "impact": ("wipe", "encrypt", "disk", "delete"),
}
ALL_LABELS = tuple(WORDS)
LABELS = ALL_LABELS[:4]


def example(
    number: int, labels: Sequence[str], *, key: str = "", text: str = "", retracted: bool = False, at_ms: int = 0
) -> Example:
    """The example of event `number`: a sentence of words of its labels."""
    said = [word for label in labels for word in WORDS.get(label, ())]
    some = [said[(number + i * 3) % len(said)] for i in range(3)] if said else []
    return Example(
        source=Source("threat.relationships.v1", 0, number, at_ms or 1_700_000_000_000 + number),
        key=key or f"relationship:{number}",
        hash=f"{number:016x}",
        text=text or f"attacker {' '.join(some)} system user-{number}",
        labels=tuple(sorted(labels)),
        taxonomy="enterprise-attack/15.1",
        retracted=retracted,
    )


def stream(labels: Sequence[str] = LABELS, first: int = 0) -> Iterator[Example]:
    """Examples without end, their labels taking turns, every fifth with two."""
    for number in count(first):
        turn = number % len(labels)
        both = (labels[turn], labels[(turn + 1) % len(labels)])
        yield example(number, both if number % 5 == 0 else both[:1])


def examples(how_many: int, labels: Sequence[str] = LABELS, first: int = 0) -> list[Example]:
    """So many of the stream, holdout and all."""
    return list(islice(stream(labels, first), how_many))


def trigger(journal: Sequence[Record], start: int, end: int, number: int = 1, **fields: Any) -> Trigger:
    """The trigger that names `[start, end)` of a journal as one window, with all of the holdout before the end.

    Offsets are places in `journal`; older training examples, at most 50, are the rehearsal.
    """
    placed = [(o, r) for o, r in enumerate(journal[:end]) if isinstance(r, Example) and not r.retracted]
    to_train = [(o, r) for o, r in placed if not held_out(r)]
    fields = {
        "parent": "",
        "labels": tuple(sorted({label for _, r in to_train for label in r.labels})),
        "rehearsal": tuple(o for o, _ in to_train if o < start)[:50],
        "holdout_old": tuple(o for o, r in placed if o < start and held_out(r)),
        "holdout_recent": tuple(o for o, r in placed if o >= start and held_out(r)),
        "seed": 17,
    } | fields
    counted = sum(o >= start for o, _ in to_train)
    return Trigger(
        model=MODEL, number=number, offset=end - 1, reason="volume", at_ms=0,
        spans=(Span(start, end, counted, "digest"),), **fields,
    )  # fmt: skip


class Record_(NamedTuple):  # noqa: N801
    """A message of a log in memory."""

    offset: int
    timestamp: int
    value: bytes | None


class MemoryLog:
    """A log in memory: `transport.partition_log.PartitionLog`. `reads` says which ranges were asked for."""

    topic, partition = JOURNAL.name, 0

    def __init__(self, records: Sequence[Record], timestamp: int = 1) -> None:
        self.timestamp = timestamp
        self.messages: list[Record_] = []
        self.reads: list[tuple[int, int]] = []
        self.append(*records)

    def append(self, *records: Record) -> None:
        """Write records at the end."""
        for record in records:
            self.messages.append(Record_(len(self.messages), self.timestamp, encode(record)))

    def end(self) -> int:
        """See `Log.end`."""
        return len(self.messages)

    def read(self, start: int, end: int) -> Iterator[Sequence[Record_]]:
        """See `Log.read`; in batches of 7."""
        self.reads.append((start, end))
        for at in range(start, end, 7):
            yield self.messages[at : min(at + 7, end)]


class MemoryProducer:
    """Takes what is sent into logs in memory, by topic: `transport.kafka.RecordProducer`.

    `dies_at` is how many records it takes before it dies, as a process would that is killed.
    """

    def __init__(self, logs: Mapping[str, MemoryLog], dies_at: int = -1) -> None:
        self._logs = logs
        self._left = dies_at

    def send(self, topic: str, record: Any, *, key: str, partition: int | None = None) -> None:
        """See `RecordProducer.send`."""
        if self._left == 0:
            raise Killed
        self._left -= 1
        self._logs[topic].append(record)

    def flush(self) -> None:
        """See `RecordProducer.flush`."""


class Killed(BaseException):
    """The process is gone; nothing may catch it."""
