"""What the commands show: plain objects, for tables and JSON, read from the topics and the registry."""

from __future__ import annotations

import contextlib
import json
import socket
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
from kafka import KafkaAdminClient, KafkaConsumer

from schemas.errors import BadConfiguration
from schemas.models import MODELS
from schemas.scores import HOLDOUT, of_split, summary
from schemas.topics import DEAD_LETTERS, JOURNAL, TOPICS, TRIGGERS, VERSIONS, WINDOWS, Topic, partition_of
from schemas.versions import Manifest, VersionEvent
from schemas.windows import Declined, Trigger, Window
from streams.app.replay import fold_from, state_now
from streams.core.fold import initial
from streams.fetchers.base.feed_status import FeedStatus, read_all
from streams.local.services import Endpoints, running
from streams.settings import Settings
from sx9_ml_models.connections import open_archive
from trainers.settings import TrainerSettings
from trainers.store.shared_registry import open_registry
from transport.admin import admin_client, committed_offsets
from transport.archive.horizon import horizon_of
from transport.kafka import consumer, end_offset, read_range
from transport.records import decoded
from transport.retry import retry
from transport.topics import partitions_of, retention_s

if TYPE_CHECKING:
    from streams.app.wiring import Role


def records(reader: KafkaConsumer, topic: Topic, model: str = "") -> Iterator[tuple[int, Any]]:
    """The records of a topic, or of the partition of a model.

    Args:
        reader: A consumer without a group.
        topic: Its record type is that of the records.
        model: A model that has a partition in the topic; empty: all partitions, one after the other.

    Yields:
        (offset, record), from the first record to the last one at the time of the call. See
        `transport.records.decoded`.

    Raises:
        RetryLater: Kafka does not answer.
    """
    numbers = [partition_of(model)] if model else [found.partition for found in partitions_of(reader, [topic])]
    for number in numbers:
        for messages in read_range(reader, topic.name, number, 0):
            for message, record in decoded(messages, topic.record, topic.name, number):
                yield message.offset, record


def windows(reader: KafkaConsumer, model: str) -> list[dict[str, Any]]:
    """The closed windows of a model, oldest first."""
    return [_to_builtins(window) | {"id": window.id} for window in _decisions(reader, WINDOWS, model, Window)]


def triggers(reader: KafkaConsumer, model: str) -> list[dict[str, Any]]:
    """The decisions to retrain a model, oldest first, each with its answer if there is one."""
    answers = {
        event.trigger: event
        for _, event in records(reader, VERSIONS)
        if event.model == model and event.outcome in ("promoted", "refused")
    }
    return [_trigger(trigger, answers.get(trigger.id)) for trigger in _decisions(reader, TRIGGERS, model, Trigger)]


def declined(reader: KafkaConsumer, model: str) -> list[dict[str, Any]]:
    """The decisions not to retrain a model, oldest first. They are recomputed from its journal."""
    return [
        _to_builtins(output)
        for _, outputs in fold_from(reader, initial(model))
        for output in outputs
        if isinstance(output, Declined)
    ]


def versions(settings: TrainerSettings, model: str) -> list[dict[str, Any]]:
    """The versions of a model in the registry, oldest first."""
    registry = open_registry(settings)
    champion = registry.champion(model)
    return [_version(manifest, champion) for manifest in registry.versions(model)]


def rebuildable_until_ms(settings: Settings, trainer: TrainerSettings, model: str) -> dict[str, float]:
    """Version -> until when it can be rebuilt; see `transport.archive.horizon.Horizon`. Empty if no Kafka runs."""
    found = running(settings, neo4j=False)
    if found is None:
        return {}
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(contextlib.closing(consumer(found.kafka_bootstrap)))
        admin = stack.enter_context(contextlib.closing(admin_client(found.kafka_bootstrap)))
        archive, kept_s = open_archive(settings, found.kafka_bootstrap), retention_s(admin).get(JOURNAL.name)
        horizon = horizon_of(reader, archive, kept_s, JOURNAL.name, partition_of(model))
    manifests = open_registry(trainer).versions(model)
    return {manifest.version: horizon.of(manifest.decided_at) for manifest in manifests}


def version(settings: TrainerSettings, model: str, name: str) -> tuple[Manifest, bool]:
    """The manifest of one version, its files checked against their hashes, and whether it serves.

    Args:
        name: `v0002`, or `champion`.

    Raises:
        BadConfiguration: There is no such version.
        Corrupt: A file isn't what was written.
    """
    registry = open_registry(settings)
    champion = registry.champion(model)
    wanted = champion or name if name == "champion" else name
    there = [manifest.version for manifest in registry.versions(model)]
    if wanted not in there:
        known = ", ".join(there) or "none yet: the first comes with the first trigger (`sx9 status`)"
        raise BadConfiguration(f"{model} has no version {name!r} in {registry.root}; there are: {known}")
    return registry.verified(model, wanted), wanted == champion


def status(settings: Settings, trainer: TrainerSettings, endpoints: Endpoints | None) -> dict[str, Any]:
    """The running processes, the topics, and each model.

    Args:
        settings: Name the state folder.
        trainer: Name the registry.
        endpoints: The running Kafka and Neo4j; None if they do not run, and then only what is on disk is returned.

    Raises:
        RetryLater: Kafka does not answer.
    """
    from streams.app.wiring import ROLES  # it imports Faust, which no other query needs

    processes = _processes(settings)
    feeds = [msgspec.structs.asdict(feed) for feed in (*read_all(settings.feeds_dir), *_without_key(settings))]
    if endpoints is None:
        return {"running": False, "processes": processes, "feeds": feeds, "models": _on_disk(trainer)}
    reader = consumer(endpoints.kafka_bootstrap)
    admin = admin_client(endpoints.kafka_bootstrap)
    try:
        existing = set(admin.list_topics())
        topics = [topic for topic in TOPICS if topic.name in existing]
        lags = {role: _lag(reader, admin, role) for role in ROLES} if len(topics) == len(TOPICS) else {}
        return {
            "running": True,
            "kafka": endpoints.kafka_bootstrap,
            "neo4j": endpoints.neo4j_uri,
            "processes": processes,
            "feeds": feeds,
            "lag": lags,
            "topics": {topic.name: _message_count(reader, topic) for topic in topics},
            "dead_letters": dict(Counter(letter.reason for _, letter in _dead_letters(reader, topics))),
            "models": [_model(reader, settings, trainer, model) for model in MODELS] if lags else [],
        }
    finally:
        admin.close()
        reader.close()


def _without_key(settings: Settings) -> Iterator[FeedStatus]:
    """What a person must do before some feeds can be fetched."""
    from streams.fetchers.base.runner import missing_key
    from streams.fetchers.feeds.registry import FEEDS

    for spec in FEEDS.values():
        if message := missing_key(spec, settings):
            yield FeedStatus(feed=spec.name, error=message)


def _dead_letters(reader: KafkaConsumer, topics: list[Topic]) -> Iterator[tuple[int, Any]]:
    return records(reader, DEAD_LETTERS) if DEAD_LETTERS in topics else iter(())


def _processes(settings: Settings) -> list[dict[str, Any]]:
    """The processes that the last `sx9 up` of this state folder started, and whether they answer."""
    try:
        listed = json.loads((settings.state_dir / "run" / "up.json").read_text())
    except (FileNotFoundError, ValueError):
        return []
    return [process | {"answers": _listens(settings.bind, process["metrics_port"])} for process in listed]


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False


def _message_count(reader: KafkaConsumer, topic: Topic) -> int:
    return sum(end_offset(reader, *partition) for partition in partitions_of(reader, [topic]))


def _lag(reader: KafkaConsumer, admin: KafkaAdminClient, role: Role) -> int:
    from streams.app.wiring import TOPICS_OF, group_of

    committed = retry(lambda: committed_offsets(admin, group_of(role)))
    partitions = partitions_of(reader, TOPICS_OF[role])
    return sum(end_offset(reader, *partition) - committed.get(partition, 0) for partition in partitions)


def _model(reader: KafkaConsumer, settings: Settings, trainer: TrainerSettings, model: str) -> dict[str, Any]:
    state = state_now(reader, model, settings.snapshots_dir)
    return {
        "model": model,
        "champion": state.champion,
        "registry_champion": open_registry(trainer).champion(model) or "",
        "journal_records": end_offset(reader, JOURNAL.name, partition_of(model)),
        "open_window_examples": state.window.examples,
        "examples_since_trigger": state.fresh_examples,
        "drift": round(state.drift, 4),
        "drift_threshold": state.policy.drift_threshold,
        "input_drift": round(state.prequential.input_drift, 4),
        "input_drift_threshold": state.policy.input_drift_threshold,
        "performance_drift": round(state.prequential.performance_drift, 2),
        "performance_drift_threshold": state.policy.performance_drift_threshold,
        "triggers": state.trigger_count,
        "waiting": state.open_trigger.id if state.open_trigger else "",
        "quarantined": sum(state.quarantine.waiting().values()),
        "quarantine_released": state.quarantine.released,
        "quarantine_purged": state.quarantine.purged,
        "now_ms": state.now_ms,
    }


def _on_disk(trainer: TrainerSettings) -> list[dict[str, Any]]:
    registry = open_registry(trainer)
    found = [{"model": model, "champion": registry.champion(model) or ""} for model in MODELS]
    return [model for model in found if model["champion"]]


def _trigger(trigger: Trigger, answer: VersionEvent | None) -> dict[str, Any]:
    return {
        "id": trigger.id,
        "version": trigger.version,
        "reason": trigger.reason,
        "at_ms": trigger.at_ms,
        "examples": trigger.examples,
        "spans": [_to_builtins(span) for span in trigger.spans],
        "rehearsal": len(trigger.rehearsal),
        "parent": trigger.parent,
        "measures": [_to_builtins(measure) for measure in trigger.measures],
        "answer": answer.outcome if answer else "",
        "detail": answer.detail if answer else "",
    }


def _version(manifest: Manifest, champion: str | None) -> dict[str, Any]:
    return {
        "model": manifest.model,
        "version": manifest.version,
        "serves": manifest.version == champion,
        "promoted": manifest.promoted,
        "reason": manifest.reason,
        "trigger": manifest.trigger,
        "parent": manifest.parent,
        "start": manifest.spans[0].start if manifest.spans else 0,
        "end": manifest.spans[-1].end if manifest.spans else 0,
        "examples": manifest.examples_trained,
        "left_out": manifest.examples_left_out,
        "dropped": manifest.examples_dropped,
        "holdout_examples": sum(s.examples for s in of_split(manifest.evaluation, HOLDOUT).values()),
        "evaluation": msgspec.to_builtins(summary(manifest.evaluation)),
        "parent_evaluation": msgspec.to_builtins(summary(manifest.parent_evaluation)),
        "seconds": manifest.seconds,
        "created_ms": manifest.created_ms,
    }


def _decisions(reader: KafkaConsumer, topic: Topic, model: str, kind: type) -> list[Any]:
    return [record for _, record in records(reader, topic, model) if isinstance(record, kind)]


def _to_builtins(record: msgspec.Struct) -> dict[str, Any]:
    return {name: msgspec.to_builtins(getattr(record, name)) for name in record.__struct_fields__}


def similar(settings: Settings, node: str, k: int) -> list[dict[str, Any]]:
    """The nodes that are most similar to a node, by the embeddings in the running Neo4j.

    Args:
        settings: Name Neo4j, or the state folder in which one runs.
        node: Id of a node.
        k: How many nodes to return, at most.

    Returns:
        Most similar first; see `trainers.store.node_embeddings.similar`.

    Raises:
        BadConfiguration: No Neo4j runs, or the node has no embedding.
        RetryLater: Neo4j does not answer.
    """
    from trainers.store import node_embeddings
    from transport.neo4j import neo4j_driver

    found = running(settings, kafka=False)
    if found is None:
        raise BadConfiguration(
            f"no Neo4j runs for {settings.state_dir}: start one with `sx9 up`, or set SX9_NEO4J_URI to your own"
        )
    login = (found.neo4j_user, found.neo4j_password)
    with neo4j_driver(found.neo4j_uri, *login, max_transaction_retry_time=5) as driver:
        return node_embeddings.similar(driver, node, k)
