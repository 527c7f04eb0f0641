"""A trainer: a Kafka group consumer that answers the triggers of one model, one after the other.

    retrain.triggers.v1 ──poll──> steps 1 to 7 in a thread (answering.py) ──> 8 commit the offset
                           └──────< polls on meanwhile, so that a long run keeps its partition

The group is the model's own, so no model waits for another. One process trains one model: the number of
threads and the random state belong to the whole process in torch. A trainer that loses its partition drops
its run; whoever has the partition then repeats it, to the same weights.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import FrameType
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import CommitFailedError, RebalanceInProgressError
from kafka.structs import OffsetAndMetadata
from prometheus_client import start_http_server

from schemas.codec import decode
from schemas.errors import BadRecord
from schemas.topics import JOURNAL, TRIGGERS, VERSIONS, partition_of
from schemas.windows import Trigger
from trainers import telemetry
from trainers.bases.resolve import Base, resolve
from trainers.core.config import RecipeConfig
from trainers.core.progress import Cancelled
from trainers.models.recipe import recipe
from trainers.runs.progress import progress_bars
from trainers.runs.trigger_handler import TriggerHandler
from trainers.settings import TrainerSettings
from trainers.store.journal_copy import JournalCopy
from trainers.store.registry import Registry
from trainers.store.version_log import VersionLog
from transport.files import LOCK_TIMEOUT_S, lock
from transport.kafka import RecordProducer, consumer, kafka_errors, producer
from transport.partition_log import KafkaPartitionLog

log = logging.getLogger(__name__)

IDLE_POLL_MS = 500
BUSY_POLL_MS = 200
CLOSE_MS = 3_000
SESSION_MS = 10_000
"""The partition of a trainer that was killed is free after so long; heartbeats come every 3 s from a thread."""


def group_of(model: str) -> str:
    """The consumer group of a model's trainers."""
    return f"sx9-trainer-{model}"


def run_consumer(
    settings: TrainerSettings,
    config: RecipeConfig,
    bootstrap: str,
    model: str,
    *,
    stop: threading.Event | None = None,
) -> None:
    """Answer triggers until stopped; what is unfinished then is repeated at the next start.

    Args:
        settings: Of the trainer.
        config: Of the model's recipe.
        bootstrap: host:port of Kafka; the topics exist.
        model: Which one to train.
        stop: Ends it, within seconds even in the middle of a run. Without one, SIGTERM and SIGINT do.

    Raises:
        RetryLater: Kafka does not answer; another start may do.
        BadConfiguration: A setting or the machine must be changed; the message says which.
        Corrupt: A version or the journal is not what was written.
    """
    kind = recipe(model).BASE_KIND
    with contextlib.ExitStack() as stack:
        stop = stop or stack.enter_context(_stopped_by_signals())
        stack.enter_context(
            lock(settings.trainer_dir / f"{model}.lock", f"training {model}", timeout_s=LOCK_TIMEOUT_S)
        )
        base = resolve(config.base, settings.cache_dir, kind)
        log.info("%s: base model %s from %s", model, base.name, base.folder)
        answering = _wire(stack, model, settings, config, base, bootstrap)
        group = consumer(
            bootstrap,
            group_id=group_of(model),
            max_poll_records=1,
            max_poll_interval_ms=settings.max_poll_interval_ms,
            session_timeout_ms=SESSION_MS,
        )
        stack.callback(group.close, autocommit=False, timeout_ms=CLOSE_MS)
        group.subscribe([TRIGGERS.name])
        _serve(group, TopicPartition(TRIGGERS.name, partition_of(model)), answering, stop)


def _wire(
    stack: contextlib.ExitStack,
    model: str,
    settings: TrainerSettings,
    config: RecipeConfig,
    base: Base,
    bootstrap: str,
) -> TriggerHandler:
    """Everything that a trainer works with; closed by the stack."""
    server, serving = start_http_server(settings.metrics_port, addr=settings.bind)
    stack.callback(serving.join)
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    log.info("%s: metrics on http://%s:%d/metrics", model, settings.bind, server.server_port)
    reader = consumer(bootstrap)
    stack.callback(reader.close)
    writer = producer(bootstrap)
    stack.callback(writer.close, timeout=5)
    journal = KafkaPartitionLog(reader, JOURNAL, partition_of(model))
    store = JournalCopy(settings.trainer_dir / f"{model}.sqlite", journal)
    stack.callback(store.close)
    registry = Registry(settings.models_dir)
    announced = VersionLog(KafkaPartitionLog(reader, VERSIONS, 0))
    answering = TriggerHandler(model, settings, config, base, registry, store, announced, RecordProducer(writer))
    answering.show_champion()
    return answering


def _serve(group: KafkaConsumer, place: TopicPartition, answering: TriggerHandler, stop: threading.Event) -> None:
    """Take triggers one by one; those of other models in the shared topic are passed over."""
    while not stop.is_set():
        with kafka_errors("waiting for triggers"):
            messages = group.poll(timeout_ms=IDLE_POLL_MS).get(place, [])
        for message in messages:
            trigger = _decoded(message)
            if trigger is None or _attend(group, place, answering, trigger, stop):
                _go_on(group, place, message.offset + 1)
                _commit(group, place, message.offset + 1)  # 8
            else:
                _go_on(group, place, message.offset)


def _decoded(message: Any) -> Trigger | None:
    try:
        trigger: Trigger = decode(message.value, Trigger)
    except BadRecord as error:
        log.error("passing over the trigger at offset %d: %s", message.offset, error)
        telemetry.FAILURES.labels(model="", error="BadRecord").inc()
        return None
    return trigger


def _attend(
    group: KafkaConsumer, place: TopicPartition, answering: TriggerHandler, trigger: Trigger, stop: threading.Event
) -> bool:
    """Have a trigger answered in a thread, and poll meanwhile.

    Returns:
        Whether it was answered; False if the run was dropped because of `stop` or a lost partition.
    """
    drop = threading.Event()
    log.info("trigger %s (%s): %d examples", trigger.id, trigger.reason, trigger.examples)
    with progress_bars(trigger.version, drop) as on_progress, ThreadPoolExecutor(1, "training") as pool:
        answer = pool.submit(answering.answer, trigger, on_progress)
        try:
            _poll_while(answer, group, place, stop, drop)
        finally:
            drop.set()
        try:
            answer.result()
        except Cancelled:
            log.warning("trigger %s: run dropped, to be repeated", trigger.id)
            return False
    return True


def _poll_while(
    answer: Future[None], group: KafkaConsumer, place: TopicPartition, stop: threading.Event, drop: threading.Event
) -> None:
    """Poll until the answer is there.

    Triggers that come meanwhile are thrown away; `_go_on` seeks back to them. Pausing the partition instead
    would be tidier, but kafka-python 3.0 can lose the records that it has fetched for a paused partition: it
    neither hands them out after `resume` nor fetches them again.
    """
    while not answer.done():
        if place not in group.assignment():
            log.warning("partition %s is another trainer's now", place)
            drop.set()
        if stop.is_set():
            drop.set()
        with kafka_errors("keeping the partition"):
            group.poll(timeout_ms=BUSY_POLL_MS)


def _go_on(group: KafkaConsumer, place: TopicPartition, offset: int) -> None:
    """Let the next poll begin at an offset, whatever was polled since."""
    if place in group.assignment():
        group.seek(place, offset)


def _commit(group: KafkaConsumer, place: TopicPartition, offset: int) -> None:
    """Say what is done. Where the partition was lost meanwhile, its next owner finds the trigger answered."""
    with kafka_errors("committing"):
        try:
            group.commit({place: OffsetAndMetadata(offset)})
        except (CommitFailedError, RebalanceInProgressError):
            log.warning("partition %s was lost before the commit of offset %d", place, offset)


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set while the block runs."""
    stop = threading.Event()

    def set_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, set_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
