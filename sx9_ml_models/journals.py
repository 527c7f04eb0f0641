"""The journal of a model for a command: on the Kafka that runs, or in a file that `sx9 export journal` wrote."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import BadConfiguration, Corrupt
from schemas.journal import Record
from schemas.topics import JOURNAL, partition_of
from streams.core.lineage import History
from streams.settings import Settings
from sx9_ml_models.connections import storage_of, topic_reader
from transport.archive.reading import without_kafka
from transport.partition_file import PartitionFile, write_partition
from transport.partition_log import KafkaPartitionLog, PartitionLog, records_between


@contextlib.contextmanager
def open_journal(model: str, file: Path | None, settings: Settings) -> Iterator[PartitionLog]:
    """The journal of a model, while the block runs.

    Args:
        model: The model.
        file: A file of its records; None: the partition of the journal topic.
        settings: Name a Kafka, or the state folder in which one runs or is started.

    Raises:
        BadConfiguration: The journal is empty, or Kafka can't be started.
        RetryLater: Kafka does not answer.
        Corrupt: The file can't be used.
    """
    if file is not None:
        yield journal_file(model, file)
        return
    with topic_reader(settings) as reader:
        yield _not_empty(KafkaPartitionLog(reader, JOURNAL, partition_of(model)), f"the journal of {model}")


def journal_file(model: str, file: Path) -> PartitionFile:
    """The journal of a model in a file.

    Raises:
        BadConfiguration: It is empty.
        Corrupt: It can't be used.
    """
    journal = PartitionFile(file, JOURNAL.name, partition_of(model))
    _not_empty(journal, str(file))
    return journal


def export_journal(
    model: str, output: Path, settings: Settings, *, from_archive: bool = False
) -> dict[str, object]:
    """Write the journal of a model to a file. Returns `output` and the number of `records`.

    Args:
        model: The model.
        output: The file.
        settings: Name Kafka and the archive.
        from_archive: Whether to read the archive alone, for a Kafka that is gone.
    """
    with archived_journal(model, settings) if from_archive else open_journal(model, None, settings) as journal:
        return {"output": str(output), "records": write_partition(output, journal, Record)}


def history_of(log: PartitionLog) -> History:
    """What reads a journal from its beginning."""
    return lambda end: ((message.offset, record) for message, record in records_between(log, Record, 0, end))


@contextlib.contextmanager
def archived_journal(model: str, settings: Settings) -> Iterator[PartitionLog]:
    """The journal of a model in the archive, up to where it was archived. No Kafka is needed.

    Raises:
        BadConfiguration: No archive is named, or it has no journal of the model.
        Corrupt: The archive is damaged, or begins after the first record.
    """
    journal = without_kafka(storage_of(settings), JOURNAL.name, partition_of(model))
    if journal.start:
        raise Corrupt(
            f"the archive {settings.archive_url} has the journal of {model} only from offset {journal.start}: what "
            "was before it had been deleted already, and without it nothing can be rebuilt"
        )
    yield journal


def _not_empty(log: PartitionLog, name: str) -> PartitionLog:
    if not log.end():
        raise BadConfiguration(
            f"{name} is empty: fetch a feed first (`sx9 fetch`), while the system runs (`sx9 up`)"
        )
    return log
