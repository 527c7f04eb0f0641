"""/healthz and /readyz say whether a process works, beside /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.clock import Clock
from transport.health import Health
from transport.metrics import serve_metrics

Get = Callable[[str], tuple[int, str]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(stuck_after_s=60, clock=clock)


@pytest.fixture
def get(health: Health) -> Iterator[Get]:
    server, thread = serve_metrics("test", 0, "127.0.0.1", health=health)

    def answer(path: str) -> tuple[int, str]:
        response = httpx.get(f"http://127.0.0.1:{server.server_port}{path}", trust_env=False)
        return response.status_code, response.text

    yield answer
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_process_that_starts_is_alive_but_not_ready_however_long_it_takes(get: Get, clock: Clock) -> None:
    clock.now = 10_000
    assert get("/healthz") == (200, "ok\n")
    assert get("/readyz") == (503, "starting\n")


def test_a_process_is_ready_until_it_says_that_it_stops(get: Get, health: Health) -> None:
    health.set_ready()
    assert get("/readyz") == (200, "ok\n")
    health.set_not_ready("stopping")
    assert get("/readyz") == (503, "stopping\n")
    assert get("/healthz") == (200, "ok\n")


def test_a_process_without_a_sign_of_life_is_stuck_until_it_gives_one(
    get: Get, health: Health, clock: Clock
) -> None:
    health.set_ready()
    clock.now = 61
    assert get("/healthz") == get("/readyz") == (503, "stuck: no sign of life for 61 s\n")
    health.beat()
    assert get("/healthz") == get("/readyz") == (200, "ok\n")


def test_metrics_are_served_whatever_the_health(get: Get, health: Health) -> None:
    status, text = get("/metrics")
    assert status == 200
    assert "# TYPE process_cpu_seconds_total counter" in text
