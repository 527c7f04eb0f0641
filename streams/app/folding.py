"""Journals into windows and triggers: the pure fold of `streams.core`, with its outputs sent once.

Order of effects: 1 fold, 2 send windows and triggers that are not on their topics yet, 3 wait until the broker
has them, 4 now and then save a snapshot. Only then does the caller commit. At start the fold reads the
journal from the snapshot on; without a snapshot, from its beginning: the result is the same.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from kafka import KafkaConsumer

from schemas.codec import decode
from schemas.errors import BadRecord, Corrupt
from schemas.journal import Record
from schemas.topics import JOURNAL, MODELS, TRIGGERS, WINDOWS, partition_of
from schemas.windows import Declined, Trigger, Window
from schemas.wire import Outbox, bulk, end_offset
from streams import metrics
from streams.app.dead_letters import decoded, rejecter
from streams.app.sink import Message, Place
from streams.core.fold import Output, State, restore, snapshot, step
from streams.durable import write_atomically

log = logging.getLogger(__name__)

SNAPSHOT_EVERY = 20_000
"""Journal records between two snapshots."""


class FoldSink:
    """Folds the journals of the models.

    Args:
        outbox: For windows, triggers and dead letters.
        reader: A consumer without a group.
        snapshots_dir: Where snapshots lie; one that is missing or belongs to another journal costs only reading.
    """

    def __init__(self, outbox: Outbox, reader: KafkaConsumer, snapshots_dir: Path) -> None:
        self._outbox = outbox
        self._reject = rejecter(outbox)
        self._reader = reader
        self._dir = snapshots_dir
        self._unsent: list[Output] = []
        self._saved = dict.fromkeys(MODELS, 0)
        self._emitted = {model: _emitted(reader, model) for model in MODELS}
        self.states: dict[str, State] = {model: self._load(model) for model in MODELS}

    def positions(self, places: Sequence[Place]) -> Mapping[Place, int]:
        """The next offset of each journal that is not folded yet."""
        return {place: self.states[MODELS[place[1]]].next_offset for place in places}

    def take(self, messages: Sequence[Message]) -> None:
        """See `Sink.take`. Messages that begin after a gap make it read the gap first."""
        for message, record in decoded(messages, Record, self._reject):
            model = MODELS[message.partition]
            if message.offset > self.states[model].next_offset:
                self._read(model, message.offset)
            self._step(model, message.offset, record)
        self._send()
        for model in {MODELS[message.partition] for message in messages}:
            _show(self.states[model])
            if self.states[model].next_offset - self._saved[model] >= SNAPSHOT_EVERY:
                self.save(model)

    def read_to_end(self, model: str) -> State:
        """Fold what is in a journal now, sending nothing; for those who only need its state."""
        self._read(model, end_offset(self._reader, JOURNAL.name, partition_of(model)))
        self._unsent.clear()
        return self.states[model]

    def save(self, model: str) -> None:
        """Write the snapshot of one model: the hash of the last record folded, then the state."""
        state = self.states[model]
        if state.next_offset > self._saved[model]:
            mark = _mark(self._reader, model, state.next_offset)
            write_atomically(self._path(model), mark + b"\n" + snapshot(state))
            self._saved[model] = state.next_offset

    def _step(self, model: str, offset: int, record: Record) -> None:
        self.states[model], outputs = step(self.states[model], offset, record)
        self._unsent += outputs

    def _read(self, model: str, end: int) -> None:
        state = self.states[model]
        for messages in bulk(self._reader, JOURNAL.name, partition_of(model), state.next_offset, end):
            for message, record in decoded(messages, Record, _pass_over):
                self._step(model, message.offset, record)

    def _send(self) -> None:
        for output in self._unsent:
            self._send_one(output)
        self._outbox.settle()
        self._unsent.clear()

    def _send_one(self, output: Output) -> None:
        partition = partition_of(output.model)
        window_end, trigger_offset = self._emitted[output.model]
        if isinstance(output, Window) and output.end > window_end:
            self._outbox.send(WINDOWS.name, output, key=output.model, partition=partition)
            self._emitted[output.model] = (output.end, trigger_offset)
            metrics.WINDOWS_CLOSED.labels(model=output.model, closed_by=output.closed_by).inc()
            log.info("window %s closed by %s: %d examples", output.id, output.closed_by, output.examples)
        elif isinstance(output, Trigger) and output.offset > trigger_offset:
            self._outbox.send(TRIGGERS.name, output, key=output.model, partition=partition)
            self._emitted[output.model] = (window_end, output.offset)
            metrics.TRIGGERS.labels(model=output.model, reason=output.reason).inc()
            log.info("trigger %s by %s: %d examples", output.id, output.reason, output.examples)
        elif isinstance(output, Declined):
            metrics.DECLINED.labels(model=output.model).inc()

    def _path(self, model: str) -> Path:
        return self._dir / f"{model}.fold"

    def _load(self, model: str) -> State:
        try:
            mark, _, data = self._path(model).read_bytes().partition(b"\n")
            state = restore(data)
        except FileNotFoundError:
            return State(model=model)
        except Corrupt as error:
            log.warning("%s: %s; reading the journal from its beginning", self._path(model), error)
            return State(model=model)
        if mark != _mark(self._reader, model, state.next_offset):
            log.warning("%s is of another journal; reading this one from its beginning", self._path(model))
            return State(model=model)
        self._saved[model] = state.next_offset
        return state


def _pass_over(message: Message, error: BadRecord) -> None:
    """Records read again at start were rejected when they came first."""
    log.warning("passing over %s/%d/%d: %s", message.topic, message.partition, message.offset, error)


def _mark(reader: KafkaConsumer, model: str, end: int) -> bytes:
    """Identifies a journal up to `end`: the hash of the record before it, empty where there is none."""
    partition = partition_of(model)
    if not 0 < end <= end_offset(reader, JOURNAL.name, partition):
        return b""
    last = [m.value for messages in bulk(reader, JOURNAL.name, partition, end - 1, end) for m in messages]
    return hashlib.blake2b(b"".join(last), digest_size=16).hexdigest().encode()


def _emitted(reader: KafkaConsumer, model: str) -> tuple[int, int]:
    """End of the last window and offset of the last trigger that are on their topics; (0, -1) at first."""
    window_end, trigger_offset = 0, -1
    partition = partition_of(model)
    for topic in (WINDOWS, TRIGGERS):
        end = end_offset(reader, topic.name, partition)
        for messages in bulk(reader, topic.name, partition, max(end - 1, 0), end):
            record = decode(messages[-1].value, topic.record)
            if isinstance(record, Window):
                window_end = record.end
            else:
                trigger_offset = record.offset
    return window_end, trigger_offset


def _show(state: State) -> None:
    metrics.OPEN_WINDOW.labels(model=state.model).set(state.window.examples)
    metrics.DRIFT.labels(model=state.model, statistic="jensen_shannon").set(state.drift)
    metrics.UNANSWERED.labels(model=state.model).set(float(state.waiting is not None))
