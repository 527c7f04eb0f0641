"""The quarantine of the journal role: judges examples before they are written, and carries out people's verdicts.

    journals ──follow──> Quarantine of each model ──judge──> Example or Held ──> journal
                                └──settle──> what was held, in order: Example, nothing, or Held again ──> journal

The state is what the journals say (`streams.core.quarantine`), so nothing is kept beside them. A verdict is carried
out by the worker that has the source partition, before it writes any later event of that partition. A worker that
dies half-way leaves records that the next one repeats and every reader drops.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping

import msgspec
from kafka import KafkaConsumer

from schemas.journal import (
    Example,
    Held,
    PolicyChange,
    QuarantineRecord,
    QuarantineSettled,
    QuarantineVerdict,
    Score,
    SeenOffsets,
    is_redelivery,
    source_partition,
)
from schemas.policy import Policy
from schemas.topics import JOURNAL, partition_of
from streams import telemetry
from streams.app.replay import journal
from streams.core.fold import State
from streams.core.quarantine import Hold, Quarantine, apply, judged, targets
from transport.kafka import RecordProducer, end_offset

log = logging.getLogger(__name__)

FLUSH_EVERY = 10_000
"""Records that are on their way at most while a verdict is carried out."""


class _Model(msgspec.Struct):
    """What is known of one journal: everything before `next_offset`, and what this worker has written since."""

    policy: Policy
    next_offset: int
    seen: dict[str, SeenOffsets]
    quarantine: Quarantine

    def copy(self) -> _Model:
        return msgspec.json.decode(msgspec.json.encode(self), type=_Model)


class QuarantineGate:
    """Judges examples, and carries out verdicts.

    Args:
        producer: As for `JournalSink`.
        reader: A consumer without a group.
        states: Model -> the state of its fold.
    """

    def __init__(self, producer: RecordProducer, reader: KafkaConsumer, states: Mapping[str, State]) -> None:
        self._producer = producer
        self._reader = reader
        self._followed = {
            model: _Model(state.policy, state.next_offset, state.source_offsets, state.quarantine)
            for model, state in states.items()
        }
        self._models = {model: followed.copy() for model, followed in self._followed.items()}

    @property
    def seen(self) -> Mapping[str, Mapping[str, SeenOffsets]]:
        """Model -> source partition -> the events in its journal, as of the latest `follow`."""
        return {model: followed.seen for model, followed in self._followed.items()}

    @property
    def looks_ahead(self) -> bool:
        """Whether others write what decides here: verdicts while anything is set aside, and scores."""
        return any(each.quarantine.is_open or each.policy.quarantine.loss_excess for each in self._models.values())

    def judge(self, model: str, example: Example) -> Example | Held:
        """The journal record of an example; the caller sends it."""
        mine = self._models[model]
        record = judged(mine.quarantine, example, mine.policy.quarantine, mine.next_offset)
        if isinstance(record, Held):
            telemetry.QUARANTINE_HELD.labels(model=model, feed=example.source.feed, reason=record.reason).inc()
            if record.reason != "following":
                log.warning(
                    "%s: %s is set aside: %s, %.0f, limit %.0f; `sx9 quarantine list` shows it",
                    model, example.source.feed, record.reason, record.value, record.limit,
                )  # fmt: skip
        return record

    def follow(self) -> None:
        """Read what is new in the journals. All that this worker has sent must be acknowledged."""
        for model, followed in self._followed.items():
            end = end_offset(self._reader, JOURNAL.name, partition_of(model))
            for offset, record in journal(self._reader, model, followed.next_offset, end):
                if isinstance(record, PolicyChange):
                    followed.policy = record.policy
                elif isinstance(record, Example | Score | QuarantineRecord):
                    apply(followed.quarantine, followed.seen, offset, record)
                followed.next_offset = offset + 1
            followed.next_offset = max(followed.next_offset, end)
            self._models[model] = followed.copy()

    def settle(self, partitions: Collection[str]) -> None:
        """Carry out the verdicts for what came from source partitions of this worker (`topic/number`).

        `follow` comes before it, with nothing written in between.
        """
        for model, followed in self._followed.items():
            for offset, verdict in list(followed.quarantine.verdicts):
                holds = targets(followed.quarantine, offset, verdict)
                if own := {name: hold for name, hold in holds.items() if name in partitions}:
                    self._carry_out(model, offset, verdict, own)
                    self.follow()

    def _carry_out(self, model: str, offset: int, verdict: QuarantineVerdict, holds: Mapping[str, Hold]) -> None:
        counts = {name: {"released": 0, "purged": 0, "kept": 0} for name in holds}
        keys = frozenset(verdict.keys)
        for sent, (name, held_at, held) in enumerate(self._held(model, offset, verdict.feed, holds), 1):
            source = msgspec.structs.replace(held.example.source, held=held_at)
            example = msgspec.structs.replace(held.example, source=source)
            named = not keys or example.key in keys
            outcome = "kept" if not named else "released" if verdict.action == "release" else "purged"
            counts[name][outcome] += 1
            if outcome == "kept":
                self._send(model, msgspec.structs.replace(held, example=example))
            elif outcome == "released":
                self._send(model, example)
            if sent % FLUSH_EVERY == 0:
                self._producer.flush()
                log.info("%s: %d examples of %s are settled so far", model, sent, verdict.feed)
        for name, found in counts.items():
            topic, _, number = name.rpartition("/")
            self._send(
                model,
                QuarantineSettled(topic=topic, partition=int(number), feed=verdict.feed, verdict=offset, **found),
            )
        self._producer.flush()
        for found in counts.values():
            telemetry.QUARANTINE_RELEASED.labels(model=model, feed=verdict.feed).inc(found["released"])
            telemetry.QUARANTINE_PURGED.labels(model=model, feed=verdict.feed).inc(found["purged"])
        total = {
            outcome: sum(found[outcome] for found in counts.values()) for outcome in ("released", "purged", "kept")
        }
        log.warning(
            "%s: %s by %s: %d released, %d purged, %d kept: %s",
            model, verdict.feed, verdict.by, total["released"], total["purged"], total["kept"], verdict.why,
        )  # fmt: skip

    def _held(self, model: str, end: int, feed: str, holds: Mapping[str, Hold]) -> Iterator[tuple[str, int, Held]]:
        """(source partition, journal offset, record) of what was set aside of a feed before an offset, in order."""
        quarantine, seen = self._followed[model].quarantine, dict[str, SeenOffsets]()
        for offset, record in journal(self._reader, model, min(hold.start for hold in holds.values()), end):
            if not isinstance(record, Held):
                continue
            source = record.example.source
            name = f"{source.topic}/{source.partition}"
            if name not in holds or offset < holds[name].start or not quarantine.is_about(record.example, feed):
                continue
            if not is_redelivery(source, seen.setdefault(source_partition(source), {})):
                yield name, offset, record

    def _send(self, model: str, record: Example | QuarantineRecord) -> None:
        self._producer.send(JOURNAL.name, record, key=model, partition=partition_of(model))
