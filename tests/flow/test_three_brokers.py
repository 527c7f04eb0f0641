"""Three brokers, of which one after the other is killed under load: nothing is lost and nothing doubled."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from kafka.errors import KafkaError

from schemas.errors import RetryLater
from schemas.models import MODELS
from schemas.topics import TRIGGERS, WINDOWS
from schemas.windows import Trigger, Window
from streams.local.services import Endpoints
from streams.settings import load_settings
from tests.flow.events import random_events
from tests.flow.roles import until
from tests.flow.world import World, complete, in_journal, pure_fold, sources
from tests.streams.local.cluster import Cluster, three_brokers
from transport.admin import admin_client
from transport.topics import create_topics

CHUNKS, CHUNK = 12, 25
FIRST, SECOND = 3, 7
"""Chunks of events after which a broker is killed, and then another."""


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with three_brokers(tmp_path_factory.mktemp("brokers"), load_settings().cache_dir) as found:
        yield found


def test_a_broker_is_killed_under_load_and_nothing_is_lost_and_nothing_doubled(
    cluster: Cluster, tmp_path: Path
) -> None:
    create_topics(cluster.bootstrap, replication_factor=3)
    world = World(Endpoints(cluster.bootstrap, "", "", ""), tmp_path)
    random, published = Random(3), 0
    with contextlib.closing(world), world.role("journal") as journal, world.role("fold") as fold:
        for one in (journal, fold):
            one.live()
        for number in range(CHUNKS):
            if number in (FIRST, SECOND):
                cluster.kill(1 if number == FIRST else 2)
            events = random_events(CHUNK, random)
            world.publish(events)
            published += len(events)
            if number == SECOND - 2:
                cluster.start(1)
                until(lambda: all_in_sync(cluster), "the first broker to have caught up")
        journal.until(lambda: all(complete(world, model) for model in MODELS), "every event in the journals")
        fold.until(lambda: folded(world), "the windows and triggers")
        assert len(world.events()) == published
        assert [in_journal(world, model) for model in MODELS] == [sources(world, model) for model in MODELS]
        _, outputs = pure_fold(world.journal())
        assert world.records(WINDOWS) == [each for each in outputs if isinstance(each, Window)] != []
        assert world.records(TRIGGERS) == [each for each in outputs if isinstance(each, Trigger)] != []


def folded(world: World) -> bool:
    """Whether the windows of the fold are on their topic."""
    _, outputs = pure_fold(world.journal())
    return len(world.records(WINDOWS)) >= sum(isinstance(output, Window) for output in outputs)


def all_in_sync(cluster: Cluster) -> bool:
    """Whether every partition has three replicas in sync. A broker that is starting may not answer yet."""
    with contextlib.suppress(KafkaError, RetryLater), contextlib.closing(admin_client(cluster.bootstrap)) as admin:
        described = admin.describe_topics()
        return all(len(p["isr_nodes"]) == 3 for topic in described for p in topic["partitions"])
    return False
