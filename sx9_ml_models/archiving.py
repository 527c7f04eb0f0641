"""The archive of the topics is brought up to date, once or again and again."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from functools import partial
from typing import NamedTuple

from schemas.errors import BadConfiguration, Corrupt, Sx9Error
from schemas.topics import TOPICS
from streams import telemetry
from streams.settings import Settings
from sx9_ml_models.connections import storage_of
from sx9_ml_models.stage_bars import stage_bars
from transport.admin import admin_client
from transport.archive.writing import Archived, archive_partition
from transport.files import lock
from transport.kafka import consumer
from transport.topics import TopicIds, partitions_of

log = logging.getLogger(__name__)


class Run(NamedTuple):
    """What one run archived of each partition, and what it could not archive."""

    archived: list[Archived]
    faults: list[str]


def archive_topics(settings: Settings, bootstrap: str) -> Run:
    """Archive what is new in every partition of every topic. A partition with a fault does not stop the others.

    Args:
        settings: Name the archive, and the state folder: one process of it archives at a time.
        bootstrap: host:port of Kafka; the topics exist.

    Raises:
        BadConfiguration, RetryLater: The archive or Kafka can't be used, or another process archives.
        RestartRequired: A topic was deleted or made again meanwhile: the next run archives the new one.
    """
    storage, found = storage_of(settings), Run([], [])
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock(settings.state_dir / "archive.lock", "archiving the topics"))
        admin = stack.enter_context(contextlib.closing(admin_client(bootstrap)))
        topics = TopicIds(admin, TOPICS)
        reader = stack.enter_context(contextlib.closing(consumer(bootstrap)))
        on_progress = stack.enter_context(stage_bars("archive"))
        for partition in partitions_of(reader, TOPICS):
            name = f"{partition.topic}/{partition.partition}"
            try:
                done = archive_partition(storage, reader, topics, partition, partial(on_progress, name))
                found.archived.append(done)
                telemetry.ARCHIVED.labels(topic=partition.topic).inc(done.records)
            except Corrupt as error:
                found.faults.append(str(error))
    if not found.faults:
        telemetry.ARCHIVED_AT.set(time.time())
    return found


def archive_repeatedly(settings: Settings, bootstrap: str, every_s: float, stop: threading.Event) -> None:
    """Archive what is new again and again until `stop` is set. What fails is logged, and tried again.

    Args:
        settings, bootstrap: As for `archive_topics`.
        every_s: Seconds from the end of a run to the next.
        stop: Set from outside to end; a run that is cut off loses nothing.

    Raises:
        BadConfiguration: The archive can't be used.
    """
    telemetry.ARCHIVE_INTERVAL.set(every_s)
    while not stop.is_set():
        try:
            run = archive_topics(settings, bootstrap)
        except BadConfiguration:
            raise
        except Sx9Error as error:
            log.warning("the topics were not archived: %s; next attempt in %.0f s", error, every_s)
        else:
            for fault in run.faults:
                log.error("not archived: %s", fault)
            records = sum(each.records for each in run.archived)
            log.info("%d records archived in %s; next run in %.0f s", records, settings.archive_url, every_s)
        stop.wait(every_s)
