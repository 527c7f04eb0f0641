"""The quarantine of the journal role: judges examples before they are written, and carries out people's verdicts.

    journals ──follow──> Quarantine of each model ──judge──> Example or Held ──> journal
                                └──settle──> what was held, in order: Example, nothing, or Held again ──> journal

The state is what the journals say (`streams.core.quarantine`), so nothing is kept beside them. A verdict is carried
out by the worker that has the source partition, before it writes any later event of that partition. A worker that
dies half-way leaves records that the next one repeats and every reader drops.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

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
)
from schemas.policy import Policy
from schemas.topics import JOURNAL, partition_of
from streams import telemetry
from streams.app.replay import journal
from streams.core.fold import State
from streams.core.quarantine import Hold, Quarantine, apply, judged, targets, waiting_records
from transport.kafka import RecordProducer, end_offset

log = logging.getLogger(__name__)

FLUSH_EVERY = 10_000
"""Records that are on their way at most while a verdict is carried out."""


class _Followed(msgspec.Struct):
    """What one journal says before `next_offset`."""

    policy: Policy
    next_offset: int
    seen: dict[str, SeenOffsets]
    quarantine: Quarantine


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
            model: _Followed(state.policy, state.next_offset, state.source_offsets, state.quarantine)
            for model, state in states.items()
        }
        self._ahead = {model: _copied(followed.quarantine) for model, followed in self._followed.items()}
        """Model -> its quarantine after what this worker has written since, too."""

    @property
    def seen(self) -> Mapping[str, Mapping[str, SeenOffsets]]:
        """Model -> source partition -> the events in its journal, as of the latest `follow`."""
        return {model: followed.seen for model, followed in self._followed.items()}

    @property
    def looks_ahead(self) -> bool:
        """Whether others write what decides here: verdicts while anything is set aside, and scores."""
        has_rule = any(followed.policy.quarantine.loss_excess for followed in self._followed.values())
        return has_rule or any(quarantine.is_open for quarantine in self._ahead.values())

    def judge(self, model: str, example: Example) -> Example | Held:
        """The journal record of an example; the caller sends it."""
        followed = self._followed[model]
        record = judged(self._ahead[model], example, followed.policy.quarantine, followed.next_offset)
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
            self._ahead[model] = _copied(followed.quarantine)

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
        start = min(hold.start for hold in holds.values())
        records = journal(self._reader, model, start, offset)
        waiting = waiting_records(self._followed[model].quarantine, verdict.feed, holds, records)
        for sent, (held_at, held) in enumerate(waiting, 1):
            source = msgspec.structs.replace(held.example.source, held=held_at)
            example = msgspec.structs.replace(held.example, source=source)
            named = not keys or example.key in keys
            outcome = "kept" if not named else "released" if verdict.action == "release" else "purged"
            counts[source.topic_partition][outcome] += 1
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

    def _send(self, model: str, record: Example | QuarantineRecord) -> None:
        self._producer.send(JOURNAL.name, record, key=model, partition=partition_of(model))


def _copied(quarantine: Quarantine) -> Quarantine:
    return msgspec.json.decode(msgspec.json.encode(quarantine), type=Quarantine)
