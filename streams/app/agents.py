"""The Faust agents: they pass each batch to the sink and acknowledge it once it is written.

Faust acknowledges the events of an agent even when the agent fails or is cancelled. These agents therefore read
without acknowledgement (`noack_take`) and acknowledge each event themselves. What another worker owns they leave to
it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import faust
from kafka import TopicPartition

from schemas.topics import Topic
from streams import telemetry
from streams.app.catch_up import from_faust
from streams.app.ownership import Ownership, until_done
from streams.app.sink import ConsumedMessage

BATCH_SIZE = 1_000
BATCH_TIMEOUT_S = 0.1

Write = Callable[[Sequence[ConsumedMessage]], Collection[TopicPartition]]
"""Writes messages of some partitions, and returns these; see `Ownership.write`."""


def add_agent(app: faust.App, name: str, topics: Sequence[Topic], ownership: Ownership) -> None:
    """Add an agent that writes the messages of `topics` that this worker owns, in batches."""
    channel = app.topic(
        *(topic.name for topic in topics),
        value_type=bytes, value_serializer="raw", key_serializer="raw", allow_empty=True, internal=False,
    )  # fmt: skip

    async def agent(stream: Any) -> None:
        async for events in stream.noack_take(BATCH_SIZE, within=BATCH_TIMEOUT_S):
            messages = [from_faust(event) for event in events]
            owned = await process_batch(ownership.write, messages, name)
            for event, message in zip(events, messages, strict=True):
                if message.topic_partition in owned:
                    event.ack()

    app.agent(channel, name=name)(agent)


async def process_batch(write: Write, messages: list[ConsumedMessage], role: str) -> Collection[TopicPartition]:
    """Write a batch, again while that raises `RetryLater`; other errors end it.

    Returns:
        The partitions whose messages were written.
    """

    def attempt() -> Collection[TopicPartition]:
        with telemetry.BATCH_SECONDS.labels(role=role).time():
            return write(messages)

    owned = await until_done(attempt, role)
    written = sum(message.topic_partition in owned for message in messages)
    telemetry.MESSAGES_PROCESSED.labels(role=role).inc(written)
    return owned
