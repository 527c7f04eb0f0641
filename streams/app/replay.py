"""Reading a journal again: the state of the fold now, or every decision it ever made.

    snapshot (if it is of this journal) ──> fold of what came since ──> state, outputs

A missing or foreign snapshot costs only reading: the result is the same from the journal's beginning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from kafka import KafkaConsumer

from schemas.codec import decode
from schemas.errors import BadRecord, Corrupt
from schemas.journal import Record
from schemas.policy import Policy
from schemas.topics import JOURNAL, partition_of
from streams.core.fold import Output, State, initial, restore, snapshot, step
from transport.files import write_atomically
from transport.kafka import read_range
from transport.partition_log import KafkaPartitionLog, last_fingerprint

log = logging.getLogger(__name__)


def load_state(reader: KafkaConsumer, model: str, snapshots_dir: Path) -> State:
    """The fold's state as the newest snapshot of this journal has it, or the state before the first record.

    Args:
        reader: A consumer without a group.
        model: Whose journal.
        snapshots_dir: Where snapshots lie.
    """
    path = snapshots_dir / f"{model}.fold"
    try:
        fingerprint, _, data = path.read_bytes().partition(b"\n")
        state = restore(data)
    except FileNotFoundError:
        return initial(model)
    except Corrupt as error:
        log.warning("%s: %s; reading the journal from its beginning", path, error)
        return initial(model)
    if fingerprint.decode() != _fingerprint(reader, state):
        log.warning("%s is of another journal; reading this one from its beginning", path)
        return initial(model)
    return state


def save_state(reader: KafkaConsumer, state: State, snapshots_dir: Path) -> None:
    """Write a snapshot, with the fingerprint of the last record folded."""
    fingerprint = _fingerprint(reader, state).encode()
    write_atomically(snapshots_dir / f"{state.model}.fold", fingerprint + b"\n" + snapshot(state))


def fold_from(
    reader: KafkaConsumer, state: State, end: int | None = None, policy: Policy | None = None
) -> Iterator[tuple[State, list[Output]]]:
    """Fold the journal from where a state stands.

    Args:
        end: Journal offset to stop before; None means what is there now.
        policy: Rules to try instead of those in the journal.

    Yields:
        The state and the outputs after each record that had any, and the state at the end.
    """
    for offset, record in journal(reader, state.model, state.next_offset, end):
        state, outputs = step(state, offset, record, policy)
        if outputs:
            yield state, outputs
    yield state, []


def state_now(reader: KafkaConsumer, model: str, snapshots_dir: Path) -> State:
    """What the fold knows after the last record of a journal."""
    state = load_state(reader, model, snapshots_dir)
    for later, _ in fold_from(reader, state):
        state = later
    return state


def journal(
    reader: KafkaConsumer, model: str, start: int = 0, end: int | None = None
) -> Iterator[tuple[int, Record]]:
    """(offset, record) of a journal; a record that doesn't decode was rejected when it came, and is passed over."""
    for messages in read_range(reader, JOURNAL.name, partition_of(model), start, end):
        for message in messages:
            try:
                yield message.offset, decode(message.value, Record)
            except BadRecord as error:
                log.warning("passing over %s/%d/%d: %s", JOURNAL.name, message.partition, message.offset, error)


def _fingerprint(reader: KafkaConsumer, state: State) -> str:
    """Identifies the journal that a state was folded from."""
    log_of_model = KafkaPartitionLog(reader, JOURNAL, partition_of(state.model))
    return last_fingerprint(log_of_model, state.next_offset)
