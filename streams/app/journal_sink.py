"""Events into journal records: what each model can learn from each event, once, in order.

Order of effects: 1 decode, 2 project, 3 send to the journal, 4 wait until the broker has all of it. Only then
does the caller commit. The producer never gives up on a record while the process lives, so what the journal
holds of a source partition is always a prefix, perhaps with repetitions, and the fold drops those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from schemas.events import Event
from schemas.journal import Source
from schemas.models import MODEL_SPECS
from schemas.topics import EVENT_TOPICS, JOURNAL, partition_of, topics_of
from streams.app.dead_letters import decoded, rejecter
from streams.app.sink import Message, Place
from streams.core.projections.base import project_all
from transport.kafka import RecordProducer

JOURNALED = tuple(topic for topic in EVENT_TOPICS if any(topic in topics_of(spec) for spec in MODEL_SPECS))
"""Topics whose events some model learns from."""


class JournalSink:
    """Writes the journals of all models that have a projection.

    Args:
        outbox: Of a producer with `delivery_timeout_ms=transport.kafka.NO_DELIVERY_TIMEOUT_MS`.
        seen: For each model, the event offsets its journal holds (`streams.core.fold.State.source_offsets`).
        committed: The group's offsets: how far events were read that gave no example.
    """

    def __init__(
        self, outbox: RecordProducer, seen: Mapping[str, Mapping[str, int]], committed: Mapping[Place, int]
    ) -> None:
        self._outbox = outbox
        self._reject = rejecter(outbox)
        self._seen = seen
        self._committed = committed
        self._known: dict[Place, list[tuple[str, int]]] = {}

    def positions(self, places: Sequence[Place]) -> Mapping[Place, int]:
        """After the last event of each place that the journals of all models that learn from it hold, or the
        group's offset if that is later; 0 where one of these journals has nothing of the place."""
        return {place: self._position(place) for place in places}

    def take(self, messages: Sequence[Message]) -> None:
        """See `Sink.take`."""
        for message, event in decoded(messages, Event, self._reject):
            source = Source(message.topic, message.partition, message.offset, message.timestamp_ms)
            observed_ms = _millis(message.observed)
            learners = self._learners((message.topic, message.partition))
            # The journals of other models may hold the event already: it is read again for the shortest journal.
            models = [model for model, next_offset in learners if message.offset >= next_offset]
            for model, example in project_all(event, source, observed_ms, models).items():
                self._outbox.send(JOURNAL.name, example, key=model, partition=partition_of(model))
        self._outbox.flush()

    def _position(self, place: Place) -> int:
        held = min((held for _, held in self._learners(place)), default=0)
        return max(held, self._committed.get(place, 0)) if held else 0

    def _learners(self, place: Place) -> list[tuple[str, int]]:
        """Each model that learns from a place, with the offset after the last event that its journal held then."""
        if place not in self._known:
            name = f"{place[0]}/{place[1]}"
            models = [spec.name for spec in MODEL_SPECS if place[0] in (topic.name for topic in topics_of(spec))]
            self._known[place] = [(model, self._seen.get(model, {}).get(name, -1) + 1) for model in models]
        return self._known[place]


def _millis(rfc3339: bytes) -> int:
    try:
        return int(datetime.fromisoformat(rfc3339.decode()).timestamp() * 1000) if rfc3339 else 0
    except ValueError:
        return 0
