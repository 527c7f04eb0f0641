"""`sx9 run classify`: texts from a topic, answers to another.

    texts ──poll──> classify with the version that serves now ──send, flush──> answers ──> commit

A value is a text, or JSON with `text` and `id`. Its answer has the same key, and names `topic/partition/offset` of
the text. Delivery is at least once: after a crash the texts since the last commit are answered again. What can't
be answered gets an answer with `error`.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from schemas.codec import MAX_RECORD_BYTES
from schemas.errors import BadConfiguration, RetryLater
from schemas.models import MODELS
from serving.batching import Batcher
from serving.classification import Labels, answer, plan, queries
from serving.follower import Follower, LogOfPromotions, champions
from serving.predictors import LoadedVersion, load
from serving.served import ServedModels
from serving.settings import ServeSettings
from trainers.store.shared_registry import open_registry
from transport.health import Health
from transport.kafka import RecordProducer, consumer, kafka_errors, producer
from transport.metrics import serve_metrics

log = logging.getLogger(__name__)

CLASSIFIER = MODELS[0]
GROUP = "sx9-classify"
POLL_RECORDS = 16
MAX_POLL_INTERVAL_MS = 1_800_000
"""Kafka takes the partitions away after so long without a poll: 16 long reports are answered sooner."""
RETRY_S = 5.0


class Input(msgspec.Struct, frozen=True):
    """A text to classify."""

    text: str
    id: str = ""


class Output(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to one message.

    Attributes:
        origin: `topic/partition/offset` of the text.
        id: As the text had it.
        model, version: Which answered.
        labels: Of the whole text.
        sentences: Their places and labels.
        error: Why there is no answer.
    """

    origin: str
    id: str = ""
    model: str = ""
    version: str = ""
    labels: Labels | None = None
    sentences: tuple[dict[str, Any], ...] = ()
    error: str = ""


class TopicClassifier:
    """Answers the texts of a topic.

    Args:
        bootstrap: host:port of Kafka; both topics exist.
        settings: Name the topics, the registry and the limits.
    """

    def __init__(self, bootstrap: str, settings: ServeSettings) -> None:
        if not settings.classify_from or not settings.classify_to:
            raise BadConfiguration(
                "SX9_SERVE_CLASSIFY_FROM and SX9_SERVE_CLASSIFY_TO name the topics of texts and answers: set both"
            )
        self._settings = settings
        registry = open_registry(settings)

        def batcher(model: str) -> Batcher:
            return Batcher(model, settings.batch_texts, settings.queue_texts, settings.timeout_s)

        self._stack = contextlib.ExitStack()
        in_precision = functools.partial(load, precision=settings.precision)
        self._served = ServedModels(registry, batcher, (CLASSIFIER,), load_version=in_precision)
        self._stack.callback(self._served.close)
        promotions = LogOfPromotions(bootstrap, lambda: champions(registry, (CLASSIFIER,)))
        self._stack.callback(promotions.close)
        self._follower = Follower(self._served, promotions, settings.follow_s)
        polling = {"max_poll_records": POLL_RECORDS, "max_poll_interval_ms": MAX_POLL_INTERVAL_MS}
        reader = consumer(bootstrap, group_id=GROUP, **polling)
        self._reader = self._stack.enter_context(contextlib.closing(reader))
        self._reader.subscribe([settings.classify_from])
        writer = self._stack.enter_context(contextlib.closing(producer(bootstrap)))
        self._writer = RecordProducer(writer)

    def step(self, timeout_ms: int = 500) -> int:
        """Answer the texts of one poll, and commit.

        Returns:
            How many there were.

        Raises:
            RetryLater: Kafka does not answer, or no version serves yet.
        """
        self._follower.step()
        version = self._served.current(CLASSIFIER)
        if version is None:
            raise RetryLater(f"no version of {CLASSIFIER} serves yet: a trainer promotes the first one")
        with kafka_errors(f"reading {self._settings.classify_from}"):
            polled = self._reader.poll(timeout_ms=timeout_ms)
        messages = [message for found in polled.values() for message in found]
        for message, found in zip(messages, self._answers(version, messages), strict=True):
            key = message.key.decode(errors="replace") if message.key else found.origin
            self._writer.send(self._settings.classify_to, found, key=key)
        if messages:
            self._writer.flush()
            with kafka_errors("committing"):
                self._reader.commit()
        return len(messages)

    def close(self) -> None:
        """Close the connections and end the threads."""
        self._stack.close()

    def _answers(self, version: LoadedVersion, messages: list[Any]) -> Iterator[Output]:
        for message in messages:
            origin = f"{message.topic}/{message.partition}/{message.offset}"
            try:
                found = decoded(message.value, self._settings.max_text_chars)
            except ValueError as error:
                yield Output(origin=origin, error=str(error))
                continue
            planned = plan(found.text, version.predictor.max_tokens, with_sentences=True)  # type: ignore[attr-defined]
            whole, parts = answer(planned, version.predict(queries(found.text, planned)))
            sentences = tuple(
                {"start": span.start, "end": span.end, **msgspec.structs.asdict(labels)}
                for span, labels in zip(planned.sentences, parts, strict=True)
            )
            full = Output(
                origin=origin, id=found.id, model=version.model, version=version.version, labels=whole,
                sentences=sentences,
            )  # fmt: skip
            too_long = len(msgspec.json.encode(full)) > MAX_RECORD_BYTES
            yield (
                msgspec.structs.replace(full, sentences=(), error="too long with its sentences")
                if too_long
                else full
            )


def decoded(value: bytes | None, max_chars: int) -> Input:
    """The text of a message.

    >>> decoded(b'{"id": "a", "text": "x"}', 10), decoded(b"plain", 10)
    (Input(text='x', id='a'), Input(text='plain', id=''))

    Raises:
        ValueError: There is none, or it is too long; the message has the limit.
    """
    if value is None:
        raise ValueError("a message without a value holds no text")
    try:
        found = msgspec.json.decode(value, type=Input)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            found = Input(value.decode())
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8: {error}") from None
    if len(found.text) > max_chars:
        raise ValueError(f"{len(found.text)} characters; the limit is {max_chars} (SX9_SERVE_MAX_TEXT_CHARS)")
    return found


def run(bootstrap: str, settings: ServeSettings, metrics_port: int = 0) -> None:
    """Answer until SIGTERM or SIGINT.

    Args:
        bootstrap: host:port of Kafka.
        settings: See `TopicClassifier`.
        metrics_port: Port of /metrics; 0: a free one.
    """
    health = Health()
    serve_metrics("classify", metrics_port, settings.host, health=health)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.closing(TopicClassifier(bootstrap, settings)) as classifier:
        log.info("classifying %s into %s", settings.classify_from, settings.classify_to)
        while True:
            try:
                classifier.step()
                health.set_ready()
            except RetryLater as error:
                log.warning("%s", error)
                health.set_not_ready(str(error))
                time.sleep(RETRY_S)
