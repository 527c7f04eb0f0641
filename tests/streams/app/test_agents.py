"""A batch is done before anything that came after it, however long that takes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

import pytest
from prometheus_client import REGISTRY

from schemas.errors import BadConfiguration, RetryLater
from streams.app import agents
from streams.app.sink import Message, Place
from tests.flow.material import technique
from tests.streams.app.messages import messages

BATCH = messages([technique(1), technique(2)])


class Patchy:
    """A sink that raises `errors` one after the other, and then takes."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.asked: list[Sequence[Message]] = []
        self.taken: list[Message] = []

    def positions(self, places: Sequence[Place]) -> Mapping[Place, int]:
        return dict.fromkeys(places, 0)

    def take(self, batch: Sequence[Message]) -> None:
        self.asked.append(batch)
        if self.errors:
            raise self.errors.pop(0)
        self.taken += batch


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The seconds that were slept instead of sleeping them."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(agents.asyncio, "sleep", sleep)
    return slept


def counted(name: str) -> float:
    return REGISTRY.get_sample_value(name, {"role": "patchy"}) or 0.0


def test_a_batch_is_tried_again_until_it_is_taken_and_counted_once(waits: list[float]) -> None:
    sink = Patchy(*(RetryLater("away") for _ in range(7)))
    retries, taken = counted("sx9_batch_retries_total"), counted("sx9_messages_processed_total")
    asyncio.run(agents.effect(sink, BATCH, "patchy"))
    assert sink.asked == [BATCH] * 8
    assert sink.taken == BATCH
    assert waits == [1.0, 2.0, 5.0, 10.0, 30.0, 30.0, 30.0]
    assert counted("sx9_batch_retries_total") - retries == 7
    assert counted("sx9_messages_processed_total") - taken == 2


def test_what_waiting_can_not_mend_is_not_tried_again(waits: list[float]) -> None:
    sink = Patchy(RetryLater("away"), BadConfiguration("the password changed"))
    taken = counted("sx9_messages_processed_total")
    with pytest.raises(BadConfiguration, match="the password changed"):
        asyncio.run(agents.effect(sink, BATCH, "patchy"))
    assert (len(sink.asked), waits) == (2, [1.0])
    assert counted("sx9_messages_processed_total") == taken
