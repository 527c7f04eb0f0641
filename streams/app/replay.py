"""Reads a journal again, for the current state of its fold or for all its past decisions.

    snapshot (if it was made from this journal) ──> fold of the records since then ──> state, outputs

Without a usable snapshot the journal is read from its beginning; the result is the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from kafka import KafkaConsumer

from schemas.errors import Corrupt
from schemas.journal import Record
from schemas.topics import JOURNAL, partition_of
from streams.core.fold import Output, State, initial, restore, snapshot
from streams.core.lineage import History, follow
from transport.files import write_atomically
from transport.kafka import read_range
from transport.partition_log import KafkaPartitionLog, last_fingerprint
from transport.records import decoded

log = logging.getLogger(__name__)


def load_state(reader: KafkaConsumer, model: str, snapshots_dir: Path) -> State:
    """The state in the snapshot of a journal, or the initial state if there is no usable snapshot.

    Args:
        reader: A consumer without a group.
        model: Name of the model.
        snapshots_dir: Folder of the snapshots.
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
        log.warning("%s was made from another journal; reading this one from its beginning", path)
        return initial(model)
    return state


def save_state(reader: KafkaConsumer, state: State, snapshots_dir: Path) -> None:
    """Write a snapshot, together with the fingerprint of the last record that was folded."""
    fingerprint = _fingerprint(reader, state).encode()
    write_atomically(snapshots_dir / f"{state.model}.fold", fingerprint + b"\n" + snapshot(state))


def fold_from(reader: KafkaConsumer, state: State, end: int | None = None) -> Iterator[tuple[State, list[Output]]]:
    """Fold the journal of a model, starting from a state.

    Args:
        reader: A consumer without a group.
        state: Where to start; it names the model.
        end: End offset in the journal, exclusive; None: its current end.

    Yields:
        (state, outputs) after each record that had outputs, and (state, []) at the end.
    """
    records_before = history(reader, state.model)
    for offset, record in journal(reader, state.model, state.next_offset, end):
        state, outputs = follow(state, offset, record, records_before)
        if outputs:
            yield state, outputs
    yield state, []


def state_now(reader: KafkaConsumer, model: str, snapshots_dir: Path) -> State:
    """The state of the fold after the last record of a journal; see `load_state`."""
    state = load_state(reader, model, snapshots_dir)
    for later_state, _ in fold_from(reader, state):
        state = later_state
    return state


def journal(
    reader: KafkaConsumer, model: str, start: int = 0, end: int | None = None
) -> Iterator[tuple[int, Record]]:
    """(offset, record) of a journal in the range `[start, end)`; see `transport.records.decoded`."""
    partition = partition_of(model)
    for messages in read_range(reader, JOURNAL.name, partition, start, end):
        for message, record in decoded(messages, Record, JOURNAL.name, partition):
            yield message.offset, record


def history(reader: KafkaConsumer, model: str) -> History:
    """What reads a journal from its beginning, also while another part of it is being read."""
    return lambda end: journal(reader, model, 0, end)


def _fingerprint(reader: KafkaConsumer, state: State) -> str:
    """Identifies the journal that a state was folded from."""
    partition_log = KafkaPartitionLog(reader, JOURNAL, partition_of(state.model))
    return last_fingerprint(partition_log, state.next_offset)
