"""A person chooses what serves: a journal record, an announcement, and the champion link, in this order.

    journal record ──> version event ──> champion link

The journal decides. A process that is killed in between leaves a link that lags: the same command again completes
it, and so does the trainer at its next trigger. A run that started from another version is refused when it answers.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Literal

from schemas.errors import BadConfiguration
from schemas.journal import ChampionChange
from schemas.topics import JOURNAL, VERSIONS, partition_of
from schemas.versions import VersionEvent
from trainers.settings import TrainerSettings
from trainers.store.journal_copy import JournalCopy
from trainers.store.shared_registry import open_registry
from trainers.store.version_log import VersionLog
from transport.kafka import RecordProducer, consumer, producer
from transport.partition_log import KafkaPartitionLog
from transport.topics import partitions_of

Action = Literal["promoted", "rolled-back"]


def change_champion(
    settings: TrainerSettings, bootstrap: str, model: str, version: str, action: Action, *, by: str, why: str
) -> str:
    """Make a version of a model the champion. Doing it again completes what was cut off, and changes nothing else.

    Args:
        settings: Of the trainer; name the registry.
        bootstrap: host:port of Kafka; the topics exist.
        model, version: The version; its files are verified.
        action: `promoted`, or `rolled-back` to an earlier version than the present champion.
        by, why: Who, and the reason; both are part of the log.

    Returns:
        The champion before; empty if there was none.

    Raises:
        BadConfiguration: There is no such version or no reason, or the action does not fit; the message has the
            remedy.
        Corrupt: A file of the version was changed.
        RetryLater: Kafka does not answer, or a trainer is promoting at this moment.
    """
    registry = open_registry(settings)
    if not why.strip():
        raise BadConfiguration("why is empty: give the reason, it is kept in the log")
    if not registry.has(model, version):
        known = ", ".join(manifest.version for manifest in registry.versions(model)) or "none yet"
        raise BadConfiguration(f"{model} has no version {version!r} in {registry.root}; there are: {known}")
    registry.verified(model, version)
    with registry.champion_lock(model), champion_topics(settings, bootstrap, model) as topics:
        journal, version_log, outbox = topics
        journal.catch_up()
        version_log.catch_up()
        serving = journal.serving()
        before = serving.version if serving else ""
        if before == version:
            request = serving.request if serving else ""
        else:
            _check_action(version, action, before)
            _check_lineage(version, journal)
            request = f"{action}-{version}-{journal.next_offset}"
            now_ms = int(time.time() * 1000)
            change = ChampionChange(version=version, action=action, by=by, why=why, request=request, time_ms=now_ms)
            outbox.send(JOURNAL.name, change, key=model, partition=partition_of(model))
            outbox.flush()
        if request:
            event = VersionEvent(
                model=model, version=version, outcome=action, detail=why, by=by, request=request,
                time_ms=int(time.time() * 1000),
            )  # fmt: skip
            announce(event, version_log, outbox)
        registry.promote(model, version)
    return before


def announce(event: VersionEvent, version_log: VersionLog, outbox: RecordProducer) -> None:
    """Send a version event, unless its topic has it."""
    if event.id not in version_log.ids:
        outbox.send(VERSIONS.name, event, key=event.model)
        outbox.flush()


def _check_lineage(version: str, journal: JournalCopy) -> None:
    lineage = journal.lineage()
    if lineage and int(version[1:]) <= lineage[1].numbered_from:
        change = lineage[1]
        if change.exclusions:
            why = f"may have learnt what {change.by} took out ({', '.join(change.exclusions)}: {change.why})"
        else:
            why = f"is of the lineage that {change.by} replaced ({change.why})"
        raise BadConfiguration(f"{version} {why}: choose a version after v{change.numbered_from:04d}")


def _check_action(version: str, action: Action, before: str) -> None:
    earlier = bool(before) and int(version[1:]) < int(before[1:])
    if action == "rolled-back" and not earlier:
        raise BadConfiguration(
            f"{version} is not earlier than the champion {before or '(none)'}: promote it instead"
        )
    if action == "promoted" and earlier:
        raise BadConfiguration(f"{version} is earlier than the champion {before}: roll back to it")


@contextlib.contextmanager
def champion_topics(
    settings: TrainerSettings, bootstrap: str, model: str
) -> Iterator[tuple[JournalCopy, VersionLog, RecordProducer]]:
    """A copy of the journal beside that of the trainer, the version events, and a producer."""
    with contextlib.ExitStack() as stack:
        reader = consumer(bootstrap)
        stack.callback(reader.close)
        writer = producer(bootstrap)
        stack.callback(writer.close, timeout=5)
        log = KafkaPartitionLog(reader, JOURNAL, partition_of(model))
        journal = JournalCopy(settings.trainer_dir / f"{model}.champion.sqlite", log)
        stack.callback(journal.close)
        events = (KafkaPartitionLog(reader, VERSIONS, n) for _, n in partitions_of(reader, [VERSIONS]))
        yield journal, VersionLog(*events), RecordProducer(writer)
