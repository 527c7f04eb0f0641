"""Journals into windows and triggers: the pure fold of `streams.core`, with its outputs sent once.

Order of effects: 1 fold, 2 send windows and triggers that are not on their topics yet, 3 wait until the broker
has them, 4 now and then save a snapshot. Only then does the caller commit.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from kafka import KafkaConsumer

from schemas.codec import decode
from schemas.journal import Record
from schemas.models import MODELS
from schemas.topics import TRIGGERS, WINDOWS, Topic, partition_of
from schemas.windows import Declined, Trigger, Window
from streams import telemetry as metrics
from streams.app.dead_letters import decoded, rejecter
from streams.app.replay import fold_from, load_state, save_state
from streams.app.sink import Message, Place
from streams.core.fold import Output, State, step
from transport.kafka import RecordProducer, end_offset, read_range

log = logging.getLogger(__name__)

SNAPSHOT_EVERY = 20_000
"""Journal records between two snapshots."""


class FoldSink:
    """Folds the journals of the models.

    Args:
        outbox: For windows, triggers and dead letters.
        reader: A consumer without a group.
        snapshots_dir: Where snapshots lie.
    """

    def __init__(self, outbox: RecordProducer, reader: KafkaConsumer, snapshots_dir: Path) -> None:
        self._outbox = outbox
        self._reject = rejecter(outbox)
        self._reader = reader
        self._dir = snapshots_dir
        self._lock = threading.Lock()
        self._unsent: list[Output] = []
        self._window_ends = dict.fromkeys(MODELS, 0)
        self._trigger_offsets = dict.fromkeys(MODELS, -1)
        for model in MODELS:
            self._see_what_was_sent(model)
        self.states: dict[str, State] = {model: load_state(reader, model, snapshots_dir) for model in MODELS}
        self._saved = {model: state.next_offset for model, state in self.states.items()}
        for state in self.states.values():
            _show(state)

    def positions(self, places: Sequence[Place]) -> Mapping[Place, int]:
        """The next offset of each journal that is not folded yet."""
        return {place: self.states[MODELS[place[1]]].next_offset for place in places}

    def take(self, messages: Sequence[Message]) -> None:
        """See `Sink.take`. Messages that begin after a gap make it read the gap first."""
        with self._lock:  # a rebalance cancels the agent, but not the thread in which its batch is at work
            self._take(messages)

    def save(self, model: str) -> None:
        """Write the snapshot of one model, if anything came since the last.

        A snapshot is behind all outputs: while a batch is at work, or was left with outputs to send, none is
        written, and the next start folds it again.
        """
        if not self._lock.acquire(blocking=False):
            return
        try:
            if not self._unsent:
                self._save(model)
        finally:
            self._lock.release()

    def _take(self, messages: Sequence[Message]) -> None:
        for message, record in decoded(messages, Record, self._reject):
            model = MODELS[message.partition]
            if message.offset > self.states[model].next_offset:
                self._fill_gap(model, message.offset)
            self.states[model], outputs = step(self.states[model], message.offset, record)
            self._unsent += outputs
        self._send()
        for model in {MODELS[message.partition] for message in messages}:
            _show(self.states[model])
            if self.states[model].next_offset - self._saved[model] >= SNAPSHOT_EVERY:
                self._save(model)

    def _save(self, model: str) -> None:
        state = self.states[model]
        if state.next_offset > self._saved[model]:
            save_state(self._reader, state, self._dir)
            self._saved[model] = state.next_offset

    def _see_what_was_sent(self, model: str) -> None:
        """Take from the topics how far windows and triggers are there; our own may still be under way."""
        self._window_ends[model] = max(self._window_ends[model], _last(self._reader, WINDOWS, model, 0))
        self._trigger_offsets[model] = max(self._trigger_offsets[model], _last(self._reader, TRIGGERS, model, -1))

    def _fill_gap(self, model: str, end: int) -> None:
        """Fold what another worker had until a rebalance; it sent the outputs that are on the topics."""
        self._see_what_was_sent(model)
        for state, outputs in fold_from(self._reader, self.states[model], end):
            self.states[model] = state
            self._unsent += outputs

    def _send(self) -> None:
        for output in self._unsent:
            if isinstance(output, Window):
                self._send_window(output)
            elif isinstance(output, Trigger):
                self._send_trigger(output)
            elif isinstance(output, Declined):
                metrics.DECLINED.labels(model=output.model).inc()
        self._outbox.flush()
        self._unsent.clear()

    def _send_window(self, window: Window) -> None:
        if window.end <= self._window_ends[window.model]:
            return
        self._outbox.send(WINDOWS.name, window, key=window.model, partition=partition_of(window.model))
        self._window_ends[window.model] = window.end
        metrics.WINDOWS_CLOSED.labels(model=window.model, closed_by=window.closed_by).inc()
        log.info("window %s closed by %s: %d examples", window.id, window.closed_by, window.examples)

    def _send_trigger(self, trigger: Trigger) -> None:
        if trigger.offset <= self._trigger_offsets[trigger.model]:
            return
        self._outbox.send(TRIGGERS.name, trigger, key=trigger.model, partition=partition_of(trigger.model))
        self._trigger_offsets[trigger.model] = trigger.offset
        metrics.TRIGGERS.labels(model=trigger.model, reason=trigger.reason).inc()
        log.info("trigger %s by %s: %d examples", trigger.id, trigger.reason, trigger.examples)


def _last(reader: KafkaConsumer, topic: Topic, model: str, otherwise: int) -> int:
    """Where the last window (its end) or trigger (its offset) on a topic stands; `otherwise` if there is none."""
    partition = partition_of(model)
    end = end_offset(reader, topic.name, partition)
    for messages in read_range(reader, topic.name, partition, max(end - 1, 0), end):
        record = decode(messages[-1].value, topic.record)
        return int(record.end if isinstance(record, Window) else record.offset)
    return otherwise


def _show(state: State) -> None:
    metrics.OPEN_WINDOW.labels(model=state.model).set(state.window.examples)
    metrics.DRIFT.labels(model=state.model, statistic="jensen_shannon").set(state.drift)
    metrics.UNANSWERED.labels(model=state.model).set(float(state.open_trigger is not None))
