"""`sx9 serve`: the server beside Kafka, where one runs, and the state of the system for its page.

versions   from model.versions.v1, else from the champion links
state      what `sx9 status` and `sx9 triggers` show, read at most every `STATE_S`
events     windows, triggers and versions as they are decided
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

from schemas.errors import RetryLater, Sx9Error
from schemas.events import Report
from schemas.models import MODELS, model_spec
from schemas.topics import REPORTS
from serving.answers.ask import Answer, Generator, ask
from serving.answers.evidence import Evidence
from serving.answers.graph import fetch_evidence, find_node
from serving.context import Change, Serving, System
from serving.follower import LogOfPromotions, champions
from serving.server import build, serve
from serving.settings import ServeSettings
from serving.techniques.live import LiveTechniques
from serving.techniques.store import EXAMPLES_FILE, TOPICS, ExampleStore
from streams.local.services import running
from streams.settings import Settings
from sx9_ml_models.asking import graph
from sx9_ml_models.monitoring import scraped_server
from trainers.store.shared_registry import open_registry
from transport.kafka import RecordProducer, consumer, producer
from transport.partition_log import KafkaPartitionLog
from transport.topics import partitions_of

log = logging.getLogger(__name__)

STATE_S = 5.0
LAST_TRIGGERS = 20
RETRY_S = 5.0
REFRESH_S = 5.0
"""Seconds between two looks for new examples of techniques."""


def run_server(settings: Settings, serve_settings: ServeSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: Name Kafka, or the state folder in which `sx9 up` runs it. Without a Kafka, the champions in the
            registry serve, and there is no feedback.
        serve_settings: Of the server.
    """
    with server(settings, serve_settings) as serving, scraped_server(settings):
        serve(serving)


@contextlib.contextmanager
def server(settings: Settings, serve_settings: ServeSettings) -> Iterator[Serving]:
    """A server that does not listen yet, and its thread that reads the decisions."""
    found = running(settings, neo4j=False)
    if found is None:
        log.warning(
            "no Kafka runs for %s: the champions in %s serve", settings.state_dir, serve_settings.models_dir
        )
        yield build(serve_settings)
        return
    registry = open_registry(serve_settings)
    wanted = LogOfPromotions(found.kafka_bootstrap, lambda: champions(registry, MODELS))
    with _Feedback(found.kafka_bootstrap) as feedback:
        answers = _Answers(settings)
        techniques = LiveTechniques(ExampleStore(serve_settings.state_dir / "serve" / EXAMPLES_FILE))
        system = System(
            state=SystemState(settings).read,
            send=feedback.send,
            change=_Changes(settings, found.kafka_bootstrap),
            answer=answers,
            neighbours=answers.neighbours,
            techniques=techniques,
        )
        serving = build(serve_settings, wanted, system)
        stop = threading.Event()
        threads = [
            threading.Thread(target=target, args=(found.kafka_bootstrap, source, stop), name=name, daemon=True)
            for name, target, source in (("decisions", _follow, serving), ("techniques", _refresh, techniques))
        ]
        for thread in threads:
            thread.start()
        try:
            yield serving
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            techniques.close()


class SystemState:
    """The state of the system, read again when it is older than `STATE_S`.

    Args:
        settings: Name Kafka and the folders.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._read_s = -STATE_S
        self._state: dict[str, Any] = {}

    def read(self) -> dict[str, Any]:
        """What `sx9 status` shows, with the latest triggers and windows of each model.

        Raises:
            RetryLater: Kafka does not answer.
        """
        with self._lock:
            if time.monotonic() - self._read_s >= STATE_S:
                self._state = self._now()
                self._read_s = time.monotonic()
            return self._state

    def _now(self) -> dict[str, Any]:
        from sx9_ml_models import queries
        from trainers.settings import load_trainer_settings

        trainer = load_trainer_settings(output_dir=self._settings.output_dir)
        endpoints = running(self._settings) or running(self._settings, neo4j=False)
        state = queries.status(self._settings, trainer, endpoints)
        if endpoints is not None and state["models"]:
            with contextlib.closing(consumer(endpoints.kafka_bootstrap)) as reader:
                for model in state["models"]:
                    name = model["model"]
                    model["latest_triggers"] = queries.triggers(reader, name)[-LAST_TRIGGERS:]
                    model["latest_windows"] = queries.windows(reader, name)[-LAST_TRIGGERS:]
        return state


class _Feedback:
    """Publishes feedback; the connection is made at the first one."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()
        self._producer: RecordProducer | None = None

    def __enter__(self) -> _Feedback:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def send(self, event: Report) -> None:
        """Publish an event, and wait until the broker has it."""
        with self._lock:
            try:
                if self._producer is None:
                    made = self._stack.enter_context(contextlib.closing(producer(self._bootstrap)))
                    self._producer = RecordProducer(made)
                self._producer.send(REPORTS.name, event, key=event.id)
                self._producer.flush()
            except Sx9Error:
                self._producer = None  # it may be in a state that it does not leave
                raise


class _Changes:
    """Promotes and rolls back, as `sx9 models` does."""

    def __init__(self, settings: Settings, bootstrap: str) -> None:
        self._settings, self._bootstrap = settings, bootstrap

    def __call__(self, model: str, version: str, action: Change, by: str, why: str) -> str:
        from trainers.runs.champion import change_champion
        from trainers.settings import load_trainer_settings

        folders = {"output_dir": self._settings.output_dir, "state_dir": self._settings.state_dir}
        settings = load_trainer_settings(**folders)
        return change_champion(settings, self._bootstrap, model_spec(model).name, version, action, by=by, why=why)


class _Answers:
    """Answers questions from the Neo4j that runs now."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __call__(self, question: str, generator: Generator | None, name: str, reason_without: str) -> Answer:
        with graph(self._settings) as driver:
            return ask(question, driver, generator, generator_name=name, reason_without=reason_without)

    def neighbours(self, name: str) -> Evidence | None:
        """What the graph knows of a node.

        Raises:
            RetryLater: No Neo4j runs.
        """
        with graph(self._settings) as driver:
            if driver is None:
                raise RetryLater("no Neo4j runs: start the system with `sx9 up`, or set SX9_NEO4J_URI to your own")
            node = find_node(driver, name)
            return fetch_evidence(driver, node) if node else None


def _refresh(bootstrap: str, techniques: LiveTechniques, stop: threading.Event) -> None:
    """Keep the examples of techniques up to date."""
    while not stop.is_set():
        try:
            with contextlib.closing(consumer(bootstrap)) as reader:
                topics = {topic.name: topic for topic in TOPICS}
                partitions = partitions_of(reader, TOPICS)
                logs = [KafkaPartitionLog(reader, topics[each.topic], each.partition) for each in partitions]
                while not stop.is_set():
                    techniques.refresh(logs)
                    stop.wait(REFRESH_S)
        except Sx9Error as error:
            log.warning("techniques: %s", error)
            stop.wait(RETRY_S)


def _follow(bootstrap: str, serving: Serving, stop: threading.Event) -> None:
    """Pass the decisions on to those who listen to `/v1/events`."""
    from sx9_ml_models.decisions import DecisionFollower, describe

    while not stop.is_set():
        try:
            with contextlib.closing(consumer(bootstrap)) as reader:
                follower = DecisionFollower(reader)
                while not stop.is_set():
                    for decision in follower.poll(500):
                        kind = type(decision).__name__.lower().removesuffix("event")
                        model = getattr(decision, "model", "")
                        serving.hub.publish(kind, {"model": model, "text": describe(decision)})
        except Sx9Error as error:
            log.warning("events: %s", error)
            stop.wait(RETRY_S)
