"""A batch is written before any message after it, however long that takes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest
from kafka import TopicPartition
from prometheus_client import REGISTRY

from schemas.errors import BadConfiguration, RestartRequired, RetryLater
from streams.app import agents, ownership
from streams.app.sink import ConsumedMessage
from tests.flow.events import technique
from tests.streams.app.messages import messages

BATCH = messages([technique(1), technique(2)])


class FlakySink:
    """A sink that raises `errors` one after another, and then accepts every batch."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.attempts: list[Sequence[ConsumedMessage]] = []
        self.written: list[ConsumedMessage] = []

    def write(self, batch: Sequence[ConsumedMessage]) -> set[TopicPartition]:
        self.attempts.append(batch)
        if self.errors:
            raise self.errors.pop(0)
        self.written += batch
        return {message.topic_partition for message in batch}


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The pauses in seconds, which are recorded instead of slept."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(ownership.asyncio, "sleep", sleep)
    return slept


def counted(name: str) -> float:
    return REGISTRY.get_sample_value(name, {"role": "flaky"}) or 0.0


def test_a_batch_is_retried_until_it_is_written_and_is_counted_once(waits: list[float]) -> None:
    sink = FlakySink(*(RetryLater("away") for _ in range(7)))
    retries, processed = counted("sx9_batch_retries_total"), counted("sx9_messages_processed_total")
    asyncio.run(agents.process_batch(sink.write, BATCH, "flaky"))
    assert sink.attempts == [BATCH] * 8
    assert sink.written == BATCH
    assert waits == [1.0, 2.0, 5.0, 10.0, 30.0, 30.0, 30.0]
    assert counted("sx9_batch_retries_total") - retries == 7
    assert counted("sx9_messages_processed_total") - processed == 2


@pytest.mark.parametrize("lasting", [BadConfiguration("the password changed"), RestartRequired("in a fatal state")])
def test_an_error_that_waiting_does_not_resolve_is_not_retried(waits: list[float], lasting: Exception) -> None:
    sink = FlakySink(RetryLater("away"), lasting)
    processed = counted("sx9_messages_processed_total")
    with pytest.raises(type(lasting)):
        asyncio.run(agents.process_batch(sink.write, BATCH, "flaky"))
    assert (len(sink.attempts), waits) == (2, [1.0])
    assert counted("sx9_messages_processed_total") == processed
