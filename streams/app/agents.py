"""The Faust agents: they pass each batch to a sink and acknowledge it once it is written.

Faust acknowledges the events of an agent even when the agent fails or is cancelled. These agents therefore read
without acknowledgement (`noack_take`) and acknowledge each event themselves.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence
from typing import Any

import faust

from schemas.errors import RetryLater
from schemas.topics import Topic
from streams import telemetry
from streams.app.catch_up import from_faust
from streams.app.sink import ConsumedMessage, Sink

log = logging.getLogger(__name__)

BATCH_SIZE = 1_000
BATCH_TIMEOUT_S = 0.1
RETRY_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses between attempts, seconds. The last one repeats without limit: no message is skipped."""


def add_agent(app: faust.App, name: str, topics: Sequence[Topic], sink: Sink) -> None:
    """Add an agent that writes all messages of `topics` to `sink`, in batches."""
    channel = app.topic(
        *(topic.name for topic in topics),
        value_type=bytes, value_serializer="raw", key_serializer="raw", allow_empty=True, internal=False,
    )  # fmt: skip

    async def agent(stream: Any) -> None:
        async for events in stream.noack_take(BATCH_SIZE, within=BATCH_TIMEOUT_S):
            await process_batch(sink, [from_faust(event) for event in events], name)
            for event in events:
                event.ack()

    app.agent(channel, name=name)(agent)


async def process_batch(sink: Sink, messages: list[ConsumedMessage], role: str) -> None:
    """Write a batch to the sink in a thread; try again while the sink raises `RetryLater`; other errors end it."""
    for attempt in itertools.count():
        try:
            with telemetry.BATCH_SECONDS.labels(role=role).time():
                await asyncio.to_thread(sink.write, messages)
        except RetryLater as error:
            pause_s = RETRY_PAUSES_S[min(attempt, len(RETRY_PAUSES_S) - 1)]
            telemetry.RETRIES.labels(role=role).inc()
            log.warning("%s: %s; next attempt in %.0f s", role, error, pause_s)
            await asyncio.sleep(pause_s)
        else:
            telemetry.MESSAGES_PROCESSED.labels(role=role).inc(len(messages))
            return
