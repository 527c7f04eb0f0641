"""Manual retrain requests: a record in the journal of a model, and the wait for its outcome.

request ──> journal ──fold──> trigger ──trainer──> promoted or refused ──> journal
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from kafka import KafkaConsumer

from schemas.journal import Manual, Promoted, Refused
from schemas.topics import JOURNAL, partition_of
from schemas.windows import Trigger
from streams.app.replay import fold_from, journal, load_state
from streams.core.fold import initial
from transport.kafka import RecordProducer, consumer, end_offset, producer

POLL_S = 0.5


@dataclass(frozen=True)
class RetrainRequest:
    """A request that is in the journal.

    Attributes:
        model: The model to retrain.
        request: Id of the request.
        reason: Why, in the words of the person who asked.
        from_offset: The record is at this journal offset or after it.
    """

    model: str
    request: str
    reason: str
    from_offset: int


@dataclass(frozen=True)
class RetrainAnswer:
    """The outcome of a request.

    Attributes:
        trigger: Id of the trigger.
        version: Name of the version that was trained for it.
        answer: `promoted` or `refused`.
    """

    trigger: str
    version: str
    answer: str


def request_retrain(bootstrap: str, model: str, request: str, reason: str) -> RetrainRequest:
    """Write a request to the journal of a model.

    Args:
        bootstrap: host:port of Kafka.
        model: The model to retrain.
        request: A unique id. A second request with the same id has no effect.
        reason: Kept in the journal.

    Raises:
        RetryLater: Kafka did not acknowledge it.
    """
    reader, writer = consumer(bootstrap), producer(bootstrap)
    try:
        from_offset = end_offset(reader, JOURNAL.name, partition_of(model))
        records = RecordProducer(writer)
        record = Manual(request=request, reason=reason, time_ms=int(time.time() * 1000))
        records.send(JOURNAL.name, record, key=model, partition=partition_of(model))
        records.flush()
    finally:
        reader.close()
        writer.close(timeout=5)
    return RetrainRequest(model, request, reason, from_offset)


def wait_for_answer(bootstrap: str, request: RetrainRequest, snapshots_dir: Path) -> RetrainAnswer:
    """Wait, without a time limit, until the trigger of a request is answered.

    Args:
        bootstrap: host:port of Kafka.
        request: As `request_retrain` returned it.
        snapshots_dir: Folder with snapshots of the fold.

    Raises:
        RetryLater: Kafka does not answer.
    """
    reader = consumer(bootstrap)
    try:
        trigger = _wait_for_trigger(reader, request, snapshots_dir)
        verdict = _wait_for_verdict(reader, trigger)
    finally:
        reader.close()
    return RetrainAnswer(trigger.id, verdict.version, type(verdict).__name__.lower())


def _wait_for_trigger(reader: KafkaConsumer, request: RetrainRequest, snapshots_dir: Path) -> Trigger:
    """The first trigger at or after the request."""
    state = load_state(reader, request.model, snapshots_dir)
    if state.next_offset > request.from_offset:  # the snapshot may be past the trigger
        state = initial(request.model)
    while True:
        for later, outputs in fold_from(reader, state):
            state = later
            for output in outputs:
                if isinstance(output, Trigger) and output.offset >= request.from_offset:
                    return output
        time.sleep(POLL_S)


def _wait_for_verdict(reader: KafkaConsumer, trigger: Trigger) -> Promoted | Refused:
    next_offset = trigger.offset
    while True:
        for offset, record in journal(reader, trigger.model, next_offset):
            next_offset = offset + 1
            if isinstance(record, Promoted | Refused) and record.trigger == trigger.id:
                return record
        time.sleep(POLL_S)
