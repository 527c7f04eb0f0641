"""Folds journals into windows and triggers with the pure fold of `streams.core`, and sends each output once.

Order of effects: 1 fold, 2 send the windows and triggers that are not on their topics yet, 3 wait until the broker
has acknowledged them, 4 save a snapshot after every `SNAPSHOT_EVERY` records. Only then does the caller commit.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from kafka import KafkaConsumer, TopicPartition

from schemas.errors import BadConfiguration, BadRecord
from schemas.journal import Record
from schemas.models import MODELS
from schemas.topics import JOURNAL, TRIGGERS, VERSIONS, WINDOWS, Topic, partition_of
from schemas.windows import Declined, Trigger, Window
from streams import telemetry
from streams.app.dead_letters import dead_letter_writer, decode_messages
from streams.app.fold_gauges import FoldGauges, closed_windows
from streams.app.replay import fold_from, history, load_state, save_state
from streams.app.sink import ConsumedMessage
from streams.core.fold import Output, State
from streams.core.lineage import follow
from transport.kafka import RecordProducer
from transport.partition_log import KafkaPartitionLog, last_record
from transport.topics import TopicIds

log = logging.getLogger(__name__)

SNAPSHOT_EVERY = 20_000
"""Journal records between two snapshots."""

JOURNAL_ID = "journal_id"
"""Header of windows and triggers: the id of the journal topic whose offsets they name."""


class FoldSink:
    """Folds the journals of the models.

    Args:
        producer: For windows, triggers and dead letters.
        reader: A consumer without a group.
        snapshots_dir: Folder of the snapshots.
        topics: Ids of the journal topic and of those of the outputs.

    Raises:
        BadConfiguration: The journal was deleted and made again, but not the topics of its outputs.

    Attributes:
        confirm: Called with a journal, and an offset up to which it is folded, before outputs are sent. It raises
            `RetryLater` if Kafka may have given the journal to another worker.
        states: Model -> state of its fold; up to date for the journals that this worker has.
    """

    def __init__(
        self, producer: RecordProducer, reader: KafkaConsumer, snapshots_dir: Path, topics: TopicIds
    ) -> None:
        self.confirm: Callable[[TopicPartition, int], object] = lambda _partition, _offset: None
        self._topics = topics
        self._headers = [(JOURNAL_ID, topics[JOURNAL.name].encode())]
        self._producer = producer
        self._write_dead_letter = dead_letter_writer(producer)
        self._reader = reader
        self._snapshots_dir = snapshots_dir
        self._lock = threading.Lock()
        self._models: frozenset[str] = frozenset()
        self._unsent: list[Output] = []
        self._window_ends = dict.fromkeys(MODELS, 0)
        self._trigger_offsets = dict.fromkeys(MODELS, -1)
        for model in MODELS:
            self._read_sent(model)
        self.states: dict[str, State] = {model: load_state(reader, model, snapshots_dir) for model in MODELS}
        self._saved = {model: state.next_offset for model, state in self.states.items()}
        self._gauges = {model: FoldGauges(model, closed_windows(reader, model)) for model in MODELS}

    def positions(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The first offset of each journal that is not folded yet."""
        return {partition: self.states[MODELS[partition.partition]].next_offset for partition in partitions}

    def write(self, messages: Sequence[ConsumedMessage]) -> None:
        """See `Sink.write`. If messages start after a gap, the gap is read from the journal first."""
        with self._lock:
            self._topics.check()
            self._write(messages)

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """See `Sink.assigned`: reads what another worker has sent, and shows the gauges of its own journals."""
        with self._lock:
            self._models = frozenset(MODELS[each.partition] for each in partitions if each.partition < len(MODELS))
            for model, gauges in self._gauges.items():
                if model not in self._models:
                    gauges.hide()
            if self._models:
                self._topics.check()
            for model in sorted(self._models):
                self._read_sent(model)
                self._gauges[model].show(self.states[model])
            self._send_open_triggers()

    def save(self, model: str) -> None:
        """Write a snapshot of one model if there are new records since the last one.

        A snapshot must not be ahead of the outputs. While a batch is being written, or outputs of a failed one are
        unsent, no snapshot is written, and the next start folds those records again.
        """
        if not self._lock.acquire(blocking=False):
            return
        try:
            if not self._unsent:
                self._save(model)
        finally:
            self._lock.release()

    def _write(self, messages: Sequence[ConsumedMessage]) -> None:
        messages = list(self._of_models(messages))
        for message, record in decode_messages(messages, Record, self._write_dead_letter):
            model = MODELS[message.partition]
            if message.offset > self.states[model].next_offset:
                self._fill_gap(model, message.offset)
            before = history(self._reader, model)
            self.states[model], outputs = follow(self.states[model], message.offset, record, before)
            self._unsent += outputs
        self._send()
        for model in {MODELS[message.partition] for message in messages}:
            self._gauges[model].show(self.states[model])
            if self.states[model].next_offset - self._saved[model] >= SNAPSHOT_EVERY:
                self._save(model)

    def _of_models(self, messages: Sequence[ConsumedMessage]) -> Iterator[ConsumedMessage]:
        """The messages of the partitions of the models; those of further partitions become dead letters."""
        for message in messages:
            if message.partition < len(MODELS):
                yield message
            else:
                self._write_dead_letter(
                    message, BadRecord("no-model", f"partition {message.partition} belongs to no model")
                )

    def _save(self, model: str) -> None:
        state = self.states[model]
        if state.next_offset > self._saved[model]:
            save_state(self._reader, state, self._snapshots_dir)
            self._saved[model] = state.next_offset

    def _read_sent(self, model: str) -> None:
        """Read from the topics which windows and triggers were sent; our own may not be acknowledged yet."""
        self._window_ends[model] = max(self._window_ends[model], self._last_sent(WINDOWS, model, 0))
        self._trigger_offsets[model] = max(self._trigger_offsets[model], self._last_sent(TRIGGERS, model, -1))

    def _last_sent(self, topic: Topic, model: str, default: int) -> int:
        """The end of the last window, or the offset of the last trigger, on a topic; `default` if there is none."""
        found = last_record(KafkaPartitionLog(self._reader, topic, partition_of(model)), topic.record)
        if found is None:
            return default
        message, record = found
        journal_id = dict(message.headers).get(JOURNAL_ID, self._headers[0][1])
        if journal_id != self._headers[0][1]:
            raise BadConfiguration(
                f"{JOURNAL.name} was deleted and made again, but {topic.name} has decisions about the former one, "
                f"whose offsets mean something else now: delete {WINDOWS.name}, {TRIGGERS.name} and "
                f"{VERSIONS.name} too, and move the folder of the models away; then all is made from the events"
            )
        return int(record.end if isinstance(record, Window) else record.offset)

    def _send_open_triggers(self) -> None:
        """Send the triggers that wait for a verdict but are not on their topic, since it was made again."""
        for model in self._models:
            trigger = self.states[model].open_trigger
            if trigger and trigger.offset > self._trigger_offsets[model]:
                self._unsent.append(trigger)
        if self._unsent:
            self._send()

    def _fill_gap(self, model: str, end: int) -> None:
        """Fold the records that another worker had before a rebalance, and whose outputs it may have sent."""
        self._read_sent(model)
        for state, outputs in fold_from(self._reader, self.states[model], end):
            self.states[model] = state
            self._unsent += outputs

    def _send(self) -> None:
        """Send the outputs of the own journals; those of others stay until this worker has their journal again."""
        own = [output for output in self._unsent if output.model in self._models]
        for model in sorted({output.model for output in own if self._is_new(output)}):
            self.confirm(TopicPartition(JOURNAL.name, partition_of(model)), self.states[model].next_offset)
        for output in own:
            if isinstance(output, Window):
                self._gauges[output.model].closed(output)
                self._send_window(output)
            elif isinstance(output, Trigger):
                self._send_trigger(output)
            elif isinstance(output, Declined):
                telemetry.DECLINED.labels(model=output.model).inc()
        self._producer.flush()
        self._unsent = [output for output in self._unsent if output.model not in self._models]

    def _is_new(self, output: Output) -> bool:
        """Whether a window or trigger was not sent yet."""
        if isinstance(output, Window):
            return output.end > self._window_ends[output.model]
        return isinstance(output, Trigger) and output.offset > self._trigger_offsets[output.model]

    def _send_window(self, window: Window) -> None:
        if not self._is_new(window):
            return
        self._producer.send(
            WINDOWS.name, window, key=window.model, partition=partition_of(window.model), headers=self._headers
        )
        self._window_ends[window.model] = window.end
        telemetry.WINDOWS_CLOSED.labels(model=window.model, closed_by=window.closed_by).inc()
        log.info("window %s closed by %s: %d examples", window.id, window.closed_by, window.examples)

    def _send_trigger(self, trigger: Trigger) -> None:
        if not self._is_new(trigger):
            return
        self._producer.send(
            TRIGGERS.name, trigger, key=trigger.model, partition=partition_of(trigger.model), headers=self._headers
        )
        self._trigger_offsets[trigger.model] = trigger.offset
        telemetry.TRIGGERS.labels(model=trigger.model, reason=trigger.reason).inc()
        log.info("trigger %s by %s: %d examples", trigger.id, trigger.reason, trigger.examples)
