"""A lineage that was trained without some examples, or with them again, takes over from what serves.

    versions copied into the registry ──> journal record ──> version event ──> champion link

Nothing serves another version before the last step, and the journal decides. A process that is killed anywhere is
completed by the same call, and once the record is in the journal, by the trainer at its next trigger too.
"""

from __future__ import annotations

import time

from schemas import scores
from schemas.errors import BadConfiguration
from schemas.journal import LineageChange
from schemas.topics import JOURNAL, partition_of
from schemas.versions import VersionEvent
from trainers.runs.champion import announce, champion_topics
from trainers.settings import TrainerSettings
from trainers.store.adoption import adopt
from trainers.store.registry import Registry
from trainers.store.shared_registry import open_registry


def take_over(
    settings: TrainerSettings, bootstrap: str, model: str, change: LineageChange, source: Registry
) -> str:
    """Put a lineage in place of what serves. Doing it again completes what was cut off, and changes nothing else.

    Args:
        settings: Of the trainer; name the registry.
        bootstrap: host:port of Kafka; the topics exist.
        model: The model.
        change: The journal record.
        source: The registry with the versions of the lineage.

    Returns:
        The version that served before; the one that serves, if the lineage took over earlier.

    Raises:
        BadConfiguration: Another lineage has taken over since this one was begun, or a version can't be copied.
        Corrupt: A file of a version was changed.
        RetryLater: Kafka does not answer, or a trainer is promoting at this moment.
    """
    registry = open_registry(settings)
    with registry.champion_lock(model), champion_topics(settings, bootstrap, model) as topics:
        journal, version_log, outbox = topics
        journal.catch_up()
        version_log.catch_up()
        latest, serving = journal.lineage(), journal.serving()
        before = serving.version if serving else ""
        if latest and latest[0] >= change.end and latest[1].request != change.request:
            raise BadConfiguration(
                f"{latest[1].by} put {latest[1].version} in place of the lineage of {model} since this rebuild was "
                "begun: delete its folder and rebuild again"
            )
        if latest and latest[1].request == change.request:
            change = latest[1]
            if before != change.version:  # a person went back since
                return before
        for answer in change.answers:
            if source.has(model, answer.version):
                adopt(source, registry, model, answer.version)
                registry.publish(model, answer.version)
        if not latest or latest[1].request != change.request:
            outbox.send(JOURNAL.name, change, key=model, partition=partition_of(model))
            outbox.flush()
        announce(lineage_event(registry, model, change), version_log, outbox)
        registry.promote(model, change.version)
    return before


def lineage_event(registry: Registry, model: str, change: LineageChange) -> VersionEvent:
    """The promotion; it names no trigger, since those of the lineage were never on their topic."""
    manifest = registry.verified(model, change.version)
    return VersionEvent(
        model=model,
        version=change.version,
        outcome="promoted",
        reason=manifest.reason,
        detail=f"{change.why} ({_what(change)})",
        parent=manifest.parent,
        examples=manifest.examples_trained,
        evaluation=scores.summary(manifest.evaluation),
        parent_evaluation=scores.summary(manifest.parent_evaluation),
        seconds=manifest.seconds,
        time_ms=int(time.time() * 1000),
        newest_event_ms=manifest.newest_event_ms,
        request=change.request,
        by=change.by,
        exclusions=change.exclusions,
    )


def _what(change: LineageChange) -> str:
    """What is left out from here on, and what counts again."""
    parts = ("without", change.exclusions), ("again with", change.lifted)
    return "; ".join(f"{word} {', '.join(names)}" for word, names in parts if names)
