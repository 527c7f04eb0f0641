"""A Neo4j with little memory for a transaction: what fits in parts is written, what never fits is a dead letter."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from neo4j import Driver

from schemas.events import Event
from schemas.topics import DEAD_LETTERS
from streams.app import graph_sink
from streams.app.graph_sink import GraphSink, create_constraints
from streams.local import neo4j as local
from streams.local.services import services
from streams.settings import load_settings
from tests.flow.events import group, technique, template
from tests.flow.graph import positions
from tests.streams.app.messages import FakeProducer, FakeTopicIds, message, messages
from transport.neo4j import neo4j_driver

TOPIC, OTHER_TOPIC = "threat.test", "threat.other"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """A driver of an empty Neo4j with 6 MB for each transaction."""
    settings = load_settings(state_dir=tmp_path_factory.mktemp("small"), kafka_bootstrap=None, neo4j_uri=None)
    usual = local.properties
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "properties", lambda *given: usual(*given) + "db.memory.transaction.max=6m\n")
        with (
            services(settings, kafka=False) as endpoints,
            neo4j_driver(endpoints.neo4j_uri, max_transaction_retry_time=0.5) as driver,
        ):
            create_constraints(driver)
            yield driver


def written(driver: Driver, label: str) -> list[str]:
    """The ids of the nodes with a label. Nothing is deleted between tests: that takes memory too."""
    found = driver.execute_query(f"MATCH (n:{label}) RETURN n.id AS id ORDER BY id").records  # type: ignore[arg-type]
    return [record["id"] for record in found]


def test_a_transaction_has_a_bounded_number_of_bytes() -> None:
    sizes = [3, 900, 8_000_000, 1, 7_999_999, 1, 1]
    given = [message(b"x" * size, offset, topic=TOPIC) for offset, size in enumerate(sizes)]
    parts = list(graph_sink._parts(given))
    assert [[len(m.value) for m in part] for part in parts] == [[3, 900], [8_000_000], [1, 7_999_999], [1, 1]]
    assert list(graph_sink._parts([])) == []


def test_a_batch_for_which_there_is_too_little_memory_is_written_in_parts(driver: Driver) -> None:
    events: list[Event | bytes] = [msgspec.structs.replace(technique(n), text="x" * 300_000) for n in range(24)]
    events[7] = b"{nonsense"
    fake = FakeProducer()
    GraphSink(driver, fake, FakeTopicIds()).write(messages(events, topic=TOPIC))  # type: ignore[arg-type]
    assert written(driver, "Technique") == [f"T{1000 + n}" for n in range(24) if n != 7]
    assert [letter.reason for letter in fake.of(DEAD_LETTERS.name)] == ["undecodable"]
    assert positions(driver)[TOPIC, 0] == 24


def test_an_event_that_is_too_much_alone_is_a_dead_letter_and_the_others_are_written(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_sink, "MEMORY_WAIT_S", 0.5)
    huge = msgspec.structs.replace(template(1), techniques=tuple(f"T{n}" for n in range(30_000)))
    fake = FakeProducer()
    GraphSink(driver, fake, FakeTopicIds()).write(messages([group(1), huge, group(2)], topic=OTHER_TOPIC))  # type: ignore[arg-type]
    (letter,) = fake.of(DEAD_LETTERS.name)
    assert (letter.origin, letter.reason) == (f"{OTHER_TOPIC}/0/1", "too-large-for-graph")
    assert written(driver, "Group") == ["intrusion-set--1", "intrusion-set--2"]
    assert positions(driver)[OTHER_TOPIC, 0] == 3
    assert fake.flushed == len(fake.sent)
