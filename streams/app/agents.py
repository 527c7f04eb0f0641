"""The Faust agents: decode nothing, decide nothing; a batch goes to its sink, and is acknowledged after it.

Faust acknowledges what an agent was handed even when the agent fails or is cancelled, so these take events
without acknowledgement and give it themselves, once the effect is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import faust

from schemas.errors import RetryLater
from schemas.topics import Topic
from streams import telemetry as metrics
from streams.app.catch_up import from_faust
from streams.app.sink import Message, Sink

log = logging.getLogger(__name__)

BATCH = 1_000
WITHIN_S = 0.1
RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Waits between attempts; the last is repeated for ever. Nothing is skipped."""


def add_agent(app: faust.App, name: str, topics: Sequence[Topic], sink: Sink) -> None:
    """Add the agent that gives `sink` everything on `topics`, in batches."""
    channel = app.topic(
        *(topic.name for topic in topics),
        value_type=bytes, value_serializer="raw", key_serializer="raw", allow_empty=True, internal=False,
    )  # fmt: skip

    async def agent(stream: Any) -> None:
        async for events in stream.noack_take(BATCH, within=WITHIN_S):
            await effect(sink, [from_faust(event) for event in events], name)
            for event in events:
                event.ack()

    app.agent(channel, name=name)(agent)


async def effect(sink: Sink, messages: list[Message], role: str) -> None:
    """Hand a batch to the sink in a thread, again and again while what it needs does not answer."""
    for attempt in range(1 << 30):
        try:
            with metrics.BATCH_SECONDS.labels(role=role).time():
                await asyncio.to_thread(sink.take, messages)
        except RetryLater as error:
            wait_s = RETRY_S[min(attempt, len(RETRY_S) - 1)]
            metrics.RETRIES.labels(role=role).inc()
            log.warning("%s: %s; again in %.0f s", role, error, wait_s)
            await asyncio.sleep(wait_s)
        else:
            metrics.EVENTS_TAKEN.labels(role=role).inc(len(messages))
            return
