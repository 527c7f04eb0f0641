"""Batches out of the queries of many requests: whole answers, equal shares, bounds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from schemas.versions import Manifest
from serving.batching import Batcher
from serving.errors import Busy, TimedOut
from serving.predictors import LoadedVersion


class Echo:
    """Answers each query with itself and the name of the version, when it is allowed to."""

    def __init__(self, name: str, gate: threading.Event) -> None:
        self.name, self.gate = name, gate
        self.batches: list[list[str]] = []

    def predict(self, batch: Sequence[str]) -> list[tuple[str, str]]:
        self.gate.wait(30)
        self.batches.append(list(batch))
        if "bad" in batch:
            raise ValueError("bad")
        return [(self.name, query) for query in batch]


def version(name: str, gate: threading.Event) -> LoadedVersion:
    return LoadedVersion(Path(name), Manifest(model="m", version=name, trigger="", reason=""), Echo(name, gate))


@pytest.fixture
def gate() -> threading.Event:
    return threading.Event()


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    made = Batcher("m", batch_size=8, queue_size=40, timeout_s=30)
    yield made
    made.close()


def test_each_request_is_answered_whole_in_order_by_the_version_that_it_came_with(
    batcher: Batcher, gate: threading.Event
) -> None:
    one, two = version("one", gate), version("two", gate)

    async def ask() -> list[list[tuple[str, str]]]:
        jobs = [batcher.submit((one, two)[n % 2], [f"{n}.{i}" for i in range(7)]) for n in range(5)]
        tasks = [asyncio.ensure_future(job) for job in jobs]
        await asyncio.sleep(0)
        gate.set()
        return [answered.predictions for answered in await asyncio.gather(*tasks)]

    answers = asyncio.run(ask())
    assert answers == [[(("one", "two")[n % 2], f"{n}.{i}") for i in range(7)] for n in range(5)]
    assert batcher.waiting == 0


def test_a_long_request_does_not_hold_up_a_short_one(batcher: Batcher, gate: threading.Event) -> None:
    one = version("one", gate)

    async def ask() -> None:
        first = asyncio.ensure_future(batcher.submit(one, ["first"]))
        await asyncio.sleep(0)
        long = asyncio.ensure_future(batcher.submit(one, [f"long {i}" for i in range(32)]))
        await asyncio.sleep(0)
        short = asyncio.ensure_future(batcher.submit(one, ["short"]))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(first, long, short)

    asyncio.run(ask())
    echo = one.predictor
    assert isinstance(echo, Echo)
    holding = [number for number, batch in enumerate(echo.batches) if "short" in batch]
    assert holding <= [1], "with the first batch after the one that was being computed"
    assert max(map(len, echo.batches)) == 8


def test_more_than_the_queue_holds_is_refused_with_the_time_to_try_again(
    batcher: Batcher, gate: threading.Event
) -> None:
    one = version("one", gate)

    async def ask() -> None:
        waiting = asyncio.ensure_future(batcher.submit(one, ["x"] * 40))
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="limit is 40") as refused:
            await batcher.submit(one, ["x"] * 41)
        assert refused.value.retry_after_s >= 1
        gate.set()
        await waiting

    asyncio.run(ask())
    assert batcher.waiting == 0


def test_a_failure_reaches_the_requests_of_its_batch_and_no_other(batcher: Batcher, gate: threading.Event) -> None:
    gate.set()
    one = version("one", gate)

    async def ask() -> None:
        with pytest.raises(ValueError, match="bad"):
            await batcher.submit(one, ["bad", *["x"] * 30])
        assert (await batcher.submit(one, ["good"])).predictions == [("one", "good")]

    asyncio.run(ask())
    assert batcher.waiting == 0


def test_an_answer_that_takes_too_long_is_given_up(gate: threading.Event) -> None:
    batcher = Batcher("m", batch_size=8, queue_size=40, timeout_s=0.05)
    one = version("one", gate)

    async def ask() -> None:
        with pytest.raises(TimedOut, match=r"within 0\.05 s"):
            await batcher.submit(one, ["x"] * 20)

    asyncio.run(ask())
    gate.set()
    batcher.close()
