"""A trainer: a Kafka consumer that handles the triggers of one model, one at a time.

    retrain.triggers.v1 ──poll──> steps 1 to 7 in a thread (trigger_handler) ──> 8 commit the offset
                           ├──────< polls in the meantime, so that a long run keeps its partition
                           └── nothing to train ──> the champion scores new examples (scoring)

Each model has its own consumer group, so no model waits for another. A run is a process of its own (`run_process`):
the trainer that waits for the next trigger imports no torch. A trainer that loses its partition cancels its run;
the next owner of the partition repeats it, with the same weights.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import FrameType
from typing import Any

import msgspec
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import CommitFailedError, RebalanceInProgressError
from kafka.structs import OffsetAndMetadata

from schemas.codec import decode
from schemas.errors import BadConfiguration, BadRecord, RetryLater
from schemas.models import model_spec
from schemas.topics import JOURNAL, TRIGGERS, VERSIONS, partition_of
from schemas.windows import Trigger
from trainers import telemetry
from trainers.core.progress import Cancelled, RunProgress
from trainers.runs.assignment import Assignment
from trainers.runs.embeddings import EmbeddingsWriter, FindNeo4j
from trainers.runs.progress import progress_bars
from trainers.runs.rebuildable import RebuildableGauges
from trainers.runs.scoring import Scoring
from trainers.runs.trigger_handler import TriggerHandler
from trainers.settings import TrainerSettings
from trainers.store.journal_copy import JournalCopy
from trainers.store.registry import Registry
from trainers.store.shared_registry import open_registry
from trainers.store.version_log import VersionLog
from transport.admin import admin_client
from transport.archive.horizon import Horizon, horizon_of
from transport.archive.reading import Archive
from transport.files import LOCK_TIMEOUT_S, lock
from transport.health import Health
from transport.kafka import RecordProducer, consumer, kafka_errors, producer
from transport.metrics import serve_metrics
from transport.partition_log import KafkaPartitionLog
from transport.storage import storage_at
from transport.topics import TopicIds, partitions_of, retention_s

log = logging.getLogger(__name__)

IDLE_POLL_MS = 500
BUSY_POLL_MS = 200
CLOSE_TIMEOUT_MS = 3_000
SESSION_TIMEOUT_MS = 10_000
"""How long a killed trainer keeps its partition. A thread of the client sends heartbeats every 3 s."""


def group_of(model: str) -> str:
    """The consumer group of the trainers of a model."""
    return f"sx9-trainer-{model}"


def run_consumer(
    settings: TrainerSettings,
    machine: Mapping[str, Any],
    bootstrap: str,
    model: str,
    *,
    find_neo4j: FindNeo4j | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Handle triggers until stopped. The next start repeats an unfinished run.

    Args:
        settings: Of the trainer.
        machine: The fields of the recipe that belong to this machine.
        bootstrap: host:port of Kafka; the topics exist.
        model: The model to train.
        find_neo4j: Where Neo4j is, at each time that there are node embeddings to write; None: where the settings
            say.
        stop: Ends it within seconds, also during a run. Without one, SIGTERM and SIGINT do.

    Raises:
        RestartRequired: A Kafka client can't go on, or the topic of the journal, triggers or versions was deleted
            and made again.
        RetryLater: Kafka does not answer, or another process is training this model; a later start may succeed.
        BadConfiguration: A setting must be changed, or a trigger is of a later release; the message has the remedy.
        Corrupt: The files of a version, or the journal, were changed.
    """
    model_spec(model)
    with contextlib.ExitStack() as stack:
        stop = stop or stack.enter_context(_stopped_by_signals())
        stack.enter_context(
            lock(settings.trainer_dir / f"{model}.lock", f"training {model}", timeout_s=LOCK_TIMEOUT_S)
        )
        admin = stack.enter_context(contextlib.closing(admin_client(bootstrap)))
        topics = TopicIds(admin, (JOURNAL, TRIGGERS, VERSIONS))  # before anything of them is read
        registry = open_registry(settings)
        registry.publish_first(model)
        embeddings = EmbeddingsWriter(model, settings, registry, find_neo4j or (lambda: settings.neo4j_uri))
        health = Health()
        archive = Archive(storage_at(settings.archive_url), topics) if settings.archive_url else None
        reader = consumer(bootstrap, archive)
        stack.callback(reader.close)
        handler = _build_handler(stack, model, settings, machine, registry, embeddings, bootstrap, reader, health)
        rebuildable = RebuildableGauges(
            model, registry, partial(_journal_horizon, reader, admin, settings.archive_url, topics, model)
        )
        group_consumer = consumer(
            bootstrap,
            group_id=group_of(model),
            max_poll_records=1,
            max_poll_interval_ms=settings.max_poll_interval_ms,
            session_timeout_ms=SESSION_TIMEOUT_MS,
        )
        stack.callback(group_consumer.close, autocommit=False, timeout_ms=CLOSE_TIMEOUT_MS)
        group_consumer.subscribe([TRIGGERS.name])
        partition = TopicPartition(TRIGGERS.name, partition_of(model))
        _consume(group_consumer, partition, handler, topics, embeddings, rebuildable, stop, health)


def _build_handler(
    stack: contextlib.ExitStack,
    model: str,
    settings: TrainerSettings,
    machine: Mapping[str, Any],
    registry: Registry,
    embeddings: EmbeddingsWriter,
    bootstrap: str,
    reader: KafkaConsumer,
    health: Health,
) -> TriggerHandler:
    """The trigger handler and all that it uses, which the stack closes; and the server of /metrics."""
    folders = {"state": settings.state_dir, "output": settings.output_dir}
    server, server_thread = serve_metrics(model, settings.metrics_port, settings.bind, folders, health)
    stack.callback(server_thread.join)
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    writer = producer(bootstrap)
    stack.callback(writer.close, timeout=5)
    partition_log = KafkaPartitionLog(reader, JOURNAL, partition_of(model))
    journal = JournalCopy(settings.trainer_dir / f"{model}.sqlite", partition_log)
    stack.callback(journal.close)
    version_log = VersionLog(
        *(KafkaPartitionLog(reader, VERSIONS, n) for _, n in partitions_of(reader, [VERSIONS]))
    )
    outbox = RecordProducer(writer)
    handler = TriggerHandler(model, settings, machine, registry, journal, version_log, outbox, embeddings)
    handler.show_state()
    return handler


def _consume(
    group_consumer: KafkaConsumer,
    partition: TopicPartition,
    handler: TriggerHandler,
    topics: TopicIds,
    embeddings: EmbeddingsWriter,
    rebuildable: RebuildableGauges,
    stop: threading.Event,
    health: Health,
) -> None:
    """Handle the triggers of one partition; see `_poll` for those of the other models."""
    while not stop.is_set():
        health.set_ready()
        messages = _poll(group_consumer, partition, IDLE_POLL_MS)
        try:
            topics.check()
        except RetryLater:
            if messages:
                raise
        for message in messages:
            trigger = _decoded(message)
            if trigger is None or _handle_while_polling(group_consumer, message, handler, trigger, stop, health):
                topics.check()
                _seek(group_consumer, partition, message.offset + 1)
                _commit(group_consumer, {partition: message.offset + 1})  # 8
            else:
                _seek(group_consumer, partition, message.offset)
        if not messages:
            embeddings.retry()
            rebuildable.refresh()
            if partition in group_consumer.assignment() and handler.scoring.is_due():
                _score_while_polling(group_consumer, partition, handler.scoring, stop, health)


def _score_while_polling(
    group_consumer: KafkaConsumer,
    partition: TopicPartition,
    scoring: Scoring,
    stop: threading.Event,
    health: Health,
) -> None:
    """Score new examples in a thread, until that is done or there is a trigger, and poll in the meantime."""
    cancel = threading.Event()

    def on_progress(_progress: RunProgress) -> None:
        if cancel.is_set():
            raise Cancelled

    with ThreadPoolExecutor(1, "scoring") as pool, contextlib.suppress(Cancelled):
        future = pool.submit(scoring.score, on_progress)
        try:
            while not future.done():
                health.beat()
                messages = _poll(group_consumer, partition, BUSY_POLL_MS)
                if messages:
                    _seek(group_consumer, partition, messages[0].offset)
                if messages or stop.is_set() or partition not in group_consumer.assignment():
                    cancel.set()
        finally:
            cancel.set()
        future.result()


def _journal_horizon(
    reader: KafkaConsumer, admin: KafkaAdminClient, archive_url: str | None, topic_ids: TopicIds, model: str
) -> Horizon:
    """The horizon of the journal of a model, by what the archive has now."""
    archive = Archive(storage_at(archive_url), topic_ids) if archive_url else None
    kept_s = retention_s(admin).get(JOURNAL.name)
    return horizon_of(reader, archive, kept_s, JOURNAL.name, partition_of(model))


def _decoded(message: Any) -> Trigger | None:
    """The trigger in a message; None, with an error in the log, if the message is none.

    Raises:
        BadConfiguration: The message is a record, but not one that this release knows. It is not committed, since
            its examples would never be trained on.
    """
    try:
        trigger: Trigger = decode(message.value or b"", Trigger)
    except BadRecord as error:
        if _is_record(message.value):
            raise BadConfiguration(
                f"the trigger at offset {message.offset} of {message.topic}/{message.partition} is of a kind that "
                f"this trainer does not know ({error}): update sx9-ml-models here to the release of the fold role"
            ) from error
        log.error("skipping the message at offset %d, which is no trigger: %s", message.offset, error)
        telemetry.FAILURES.labels(model="", error="BadRecord").inc()
        return None
    return trigger


def _is_record(value: bytes | None) -> bool:
    """Whether a message is a JSON object, as every record is; a stray producer writes anything."""
    try:
        return isinstance(msgspec.json.decode(value or b""), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _handle_while_polling(
    group_consumer: KafkaConsumer,
    message: Any,
    handler: TriggerHandler,
    trigger: Trigger,
    stop: threading.Event,
    health: Health,
) -> bool:
    """Handle the trigger of a message in a thread, and poll in the meantime.

    Returns:
        Whether it was answered; False if the run was cancelled, by `stop` or because the partition was lost.
    """
    cancel = threading.Event()
    assignment = Assignment(cancel)
    log.info("trigger %s (%s): %d examples", trigger.id, trigger.reason, trigger.examples)
    with progress_bars(trigger.version, cancel) as on_progress, ThreadPoolExecutor(1, "training") as pool:
        future = pool.submit(handler.handle, trigger, on_progress, assignment.confirm)
        try:
            _poll_until_done(future, group_consumer, message, assignment, stop, cancel, health)
        finally:
            cancel.set()
        try:
            future.result()
        except Cancelled:
            log.warning("trigger %s: run cancelled; it will be repeated", trigger.id)
            return False
    return True


def _poll_until_done(
    future: Future[None],
    group_consumer: KafkaConsumer,
    message: Any,
    assignment: Assignment,
    stop: threading.Event,
    cancel: threading.Event,
    health: Health,
) -> None:
    """Poll until the trigger is handled; cancel the run if the partition is lost or `stop` is set.

    Triggers that arrive in the meantime are discarded; `_seek` goes back to them. Pausing the partition would be
    simpler, but kafka-python 3.0 can lose the records that it has fetched for a paused partition: it neither
    returns them after `resume` nor fetches them again.
    """
    partition = TopicPartition(message.topic, message.partition)

    def is_ours() -> bool:
        return partition in group_consumer.assignment() and _commit(group_consumer, {partition: message.offset})

    while not future.done():
        health.beat()
        if partition not in group_consumer.assignment():
            log.warning("partition %s was assigned to another trainer", partition)
            cancel.set()
        if stop.is_set():
            cancel.set()
        assignment.answer_with(is_ours)
        _poll(group_consumer, partition, BUSY_POLL_MS)


def _poll(group_consumer: KafkaConsumer, partition: TopicPartition, timeout_ms: int) -> list[Any]:
    """The messages of the partition within a time.

    The group is assigned the partitions of all models. Those of the others are passed over and committed, so that
    the lag of the group is its own.
    """
    with kafka_errors("waiting for triggers"):
        polled = group_consumer.poll(timeout_ms=timeout_ms)
    messages: list[Any] = polled.pop(partition, [])
    _commit(group_consumer, {other: passed_over[-1].offset + 1 for other, passed_over in polled.items()})
    return messages


def _seek(group_consumer: KafkaConsumer, partition: TopicPartition, offset: int) -> None:
    """Make the next poll start at an offset, regardless of what was polled since."""
    if partition in group_consumer.assignment():
        group_consumer.seek(partition, offset)


def _commit(group_consumer: KafkaConsumer, offsets: Mapping[TopicPartition, int]) -> bool:
    """Commit offsets. If a partition was lost, its next owner finds that the trigger is answered.

    Returns:
        Whether Kafka took them; not if a partition was lost.
    """
    if not offsets:
        return True
    with kafka_errors("committing"):
        try:
            group_consumer.commit({partition: OffsetAndMetadata(offset) for partition, offset in offsets.items()})
        except (CommitFailedError, RebalanceInProgressError):
            log.warning("partitions were lost before the commit of %s", dict(offsets))
            return False
    return True


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set while the block runs."""
    stop = threading.Event()

    def set_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    previous = {number: signal.signal(number, set_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
