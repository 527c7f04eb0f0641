"""Writes events to the journals: for each model an example of each event that it can learn from, once and in order.

Order of effects: 1 decode, 2 project, 3 send to the journal, 4 wait until the broker has acknowledged all of it.
Only then does the caller commit. The producer never gives up on a record while the process lives. So a journal
always holds a prefix of each source partition, possibly with redeliveries, which the fold drops. A batch that is
repeated because its acknowledgements did not come in time, in an outage of Kafka, waits for the records that it has
sent and does not send them again. An example that does not fit a message becomes a dead letter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache

from kafka import TopicPartition

from schemas.errors import BadRecord
from schemas.events import Event
from schemas.fetch_totals import FetchTotals, totals_of_header
from schemas.journal import Example, SeenOffsets, Source, seen_offset
from schemas.models import MODEL_SPECS
from schemas.topics import EVENT_TOPICS, JOURNAL, partition_of, topics_of
from streams.app.dead_letters import dead_letter_writer, decode_messages
from streams.app.quarantine import QuarantineGate
from streams.app.sink import ConsumedMessage
from streams.core.projections.base import project, project_all
from transport.kafka import RecordProducer
from transport.topics import TopicIds

JOURNALED = tuple(topic for topic in EVENT_TOPICS if any(topic in topics_of(spec) for spec in MODEL_SPECS))
"""Topics with events that a model learns from."""


class JournalSink:
    """Writes the journals of all models that have a projection.

    Args:
        producer: Its client has `delivery_timeout_ms=transport.kafka.NO_DELIVERY_TIMEOUT_MS`.
        seen: Model -> source partition -> the events in the journal (`streams.core.fold.State.source_offsets`).
        committed: Returns the committed offsets of the group, which also cover events that gave no example; called
            when partitions are assigned.
        topics: Ids of the topics that are read and of the journal.
        gate: Judges each example; None: nothing is set aside.
    """

    def __init__(
        self,
        producer: RecordProducer,
        seen: Mapping[str, Mapping[str, SeenOffsets]],
        committed: Callable[[], Mapping[TopicPartition, int]],
        topics: TopicIds,
        gate: QuarantineGate | None = None,
    ) -> None:
        self._topics = topics
        self._producer = producer
        self._write_dead_letter = dead_letter_writer(producer)
        self._seen = seen
        self._read_committed = committed
        self._committed = committed()
        self._starts: dict[TopicPartition, list[tuple[str, int]]] = {}
        self._sent_ends: dict[tuple[str, int], int] = {}
        self._gate = gate
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._lock = threading.Lock()

    def positions(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The first offset of each partition that not all journals of the models that learn from it hold.

        This is the committed offset if that is higher, and 0 if one of these journals has no event of it.
        """
        return {partition: self._position(partition) for partition in partitions}

    def write(self, messages: Sequence[ConsumedMessage]) -> None:
        """See `Sink.write`."""
        with self._lock:
            self._topics.check()
            for message, event in decode_messages(self._not_sent(messages), Event, self._write_dead_letter):
                self._send(message, event)
            self._producer.flush()
            self._sent_ends.clear()

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """See `Sink.assigned`: reads in the journals where to start, and carries out the verdicts that wait."""
        with self._lock:
            self._assigned = frozenset(partitions)
            if not partitions:
                return
            self._topics.check()
            self._committed = self._read_committed()
            self._follow()
            self._settle()

    def settle(self) -> None:
        """Carry out the verdicts of people on what came from the partitions of this worker and was set aside.

        Raises:
            RetryLater: Kafka does not answer; call it again.
        """
        with self._lock:
            if self._gate is not None and self._assigned and self._gate.looks_ahead:
                self._topics.check()
                self._follow()
                self._settle()

    def _follow(self) -> None:
        """Bring what is known of the journals up to date, and with it where to start."""
        if self._gate is not None:
            self._producer.flush()
            self._gate.follow()
            self._seen = self._gate.seen
            self._starts.clear()

    def _settle(self) -> None:
        if self._gate is not None:
            self._gate.settle({f"{each.topic}/{each.partition}" for each in self._assigned})

    def _not_sent(self, messages: Sequence[ConsumedMessage]) -> Iterator[ConsumedMessage]:
        """The messages whose records are not on their way yet; one counts as sent when the next is asked for."""
        for message in messages:
            partition = (message.topic, message.partition)
            if message.offset >= self._sent_ends.get(partition, 0):
                yield message
                self._sent_ends[partition] = message.offset + 1

    def _send(self, message: ConsumedMessage, event: Event) -> None:
        """Send the examples of an event to the journals that do not hold it."""
        source, observed_ms = _source_of(message, event, self._topics[message.topic]), _to_ms(message.observed)
        starts = self._starts_of(message.topic_partition)
        # Some journals may hold the event already: it is read again for the journal that has the least.
        models = [model for model, start in starts if message.offset >= start]
        for model, example in project_all(event, source, observed_ms, models).items():
            record = self._gate.judge(model, example) if self._gate else example
            try:
                self._producer.send(JOURNAL.name, record, key=model, partition=partition_of(model))
            except BadRecord as error:
                self._write_dead_letter(message, BadRecord(error.reason, f"{model}: {error.detail}"))

    def _position(self, partition: TopicPartition) -> int:
        start = min((start for _, start in self._starts_of(partition)), default=0)
        return max(start, self._committed.get(partition, 0)) if start else 0

    def _starts_of(self, partition: TopicPartition) -> list[tuple[str, int]]:
        """(model, first offset that its journal did not hold at the start), for each model that learns from it."""
        if partition not in self._starts:
            name = f"{partition.topic}/{partition.partition}"
            learners = (s for s in MODEL_SPECS if partition.topic in (topic.name for topic in topics_of(s)))
            topic_id = self._topics[partition.topic]
            self._starts[partition] = [
                (s.name, seen_offset(self._seen.get(s.name, {}).get(name, {}), topic_id) + 1) for s in learners
            ]
        return self._starts[partition]


def example_of(model: str, message: ConsumedMessage, event: Event, topic_id: str) -> Example | None:
    """The example that the journal of a model has of an event; None if the model learns nothing from it.

    Args:
        model: The model.
        message: The message of the event, whose topic has the id `topic_id`.
        event: What the message holds.
    """
    return project(model, event, _source_of(message, event, topic_id), _to_ms(message.observed))


def _source_of(message: ConsumedMessage, event: Event, topic_id: str) -> Source:
    return Source(
        message.topic, message.partition, message.offset, message.timestamp_ms, topic_id, event.feed,
        _totals(message.fetch),
    )  # fmt: skip


@lru_cache(maxsize=1_024)  # a fetch gives all of its events the same time
def _to_ms(rfc3339: bytes) -> int:
    """ms since 1970 UTC; 0 for a time that is missing or can't be read."""
    try:
        return int(datetime.fromisoformat(rfc3339.decode()).timestamp() * 1000) if rfc3339 else 0
    except ValueError:
        return 0


@lru_cache(maxsize=1_024)
def _totals(header: bytes) -> FetchTotals | None:
    return totals_of_header(header) if header else None
