"""The Kafka clients of a pass over feeds: each is made once, and one that failed or lay idle is made anew."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streams.fetchers.base import clients as module
from streams.fetchers.base.clients import KafkaClients, clients_of
from streams.fetchers.base.runner import fetch
from streams.fetchers.feeds import attack, registry
from streams.settings import Settings
from tests.streams.fetchers.stix_bundles import ordinary, technique, written


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the clients that are made."""
    found = Counter[str]()

    def counting(name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **settings: Any) -> Any:
            found[name] += 1
            return make(*arguments, **settings)

        return counted

    monkeypatch.setattr(module.wire, "consumer", counting("reader", module.wire.consumer))
    monkeypatch.setattr(module.wire, "producer", counting("producer", module.wire.producer))
    monkeypatch.setattr(module, "admin_client", counting("admin", module.admin_client))
    return found


def test_a_pass_over_several_feeds_makes_each_client_once_and_without_changes_no_producer(
    made: Counter[str], settings: Settings, bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds = [f"test-pass-{number}" for number in range(3)]
    for feed in feeds:
        monkeypatch.setitem(registry.FEEDS, feed, attack.feed_of("enterprise-attack", feed))
    source = written(tmp_path, *ordinary(2), technique(8))
    with clients_of(bootstrap) as clients:
        assert [fetch(feed, source, settings, clients).counts["new"] for feed in feeds] == [6, 6, 6]
    assert made == {"reader": 1, "admin": 1, "producer": 1}
    made.clear()
    with clients_of(bootstrap) as clients:
        assert [fetch(feed, source, settings, clients).published for feed in feeds] == [0, 0, 0]
    assert made == {"reader": 1, "admin": 1}


class Client:
    """Says whether it was closed."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.closed = False

    def close(self, **_: Any) -> None:
        self.closed = True


def test_a_client_that_failed_or_was_not_used_for_long_is_closed_and_the_next_use_makes_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module.wire, "producer", Client)
    now_s = [1_000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now_s[0])
    clients = KafkaClients("unused")
    with clients.producer(100) as first:
        pass
    with contextlib.suppress(ZeroDivisionError), clients.producer(100) as again:
        raise ZeroDivisionError
    assert again is first
    assert first.closed
    with clients.producer(100) as second, clients.producer(50) as smaller:
        assert len({first, second, smaller}) == 3
    now_s[0] += module.FRESH_S + 1
    with clients.producer(100) as third:
        assert second.closed
        assert not third.closed
    clients.close()
    assert third.closed
    assert smaller.closed
