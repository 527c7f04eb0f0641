"""The graph has the newest revisions, in whatever order and however often they arrive."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import msgspec
import pytest
from kafka import TopicPartition
from neo4j import Driver, GraphDatabase

from schemas.codec import encode
from schemas.errors import BadConfiguration, RestartRequired, RetryLater
from schemas.events import Event
from schemas.topics import DEAD_LETTERS
from streams.app.graph_sink import GraphSink, create_constraints
from streams.local.services import Endpoints
from streams.settings import Settings
from tests.flow.events import FIRST_MS, group, random_events, technique, template, uses
from tests.flow.graph import expected_graph, positions, stored_graph
from tests.streams.app.messages import FakeProducer, FakeTopicIds, message, messages
from transport.neo4j import neo4j_driver

TOPIC = "threat.test"


@pytest.fixture
def driver(service_settings: Settings, neo4j_endpoint: Endpoints) -> Iterator[Driver]:
    """A driver of an empty graph."""
    if service_settings.neo4j_uri:
        pytest.skip("deletes everything: not in a configured Neo4j")
    with neo4j_driver(neo4j_endpoint.neo4j_uri) as driver:
        create_constraints(driver)
        driver.execute_query("MATCH (n) DETACH DELETE n")
        yield driver


def write_batches(driver: Driver, *batches: Sequence[Event | bytes]) -> list[Any]:
    """Write batches of events to the graph; returns the dead letters."""
    fake, offset = FakeProducer(), 0
    for batch in batches:
        GraphSink(driver, fake, FakeTopicIds()).write(messages(batch, offset, TOPIC))  # type: ignore[arg-type]
        offset += len(batch)
    return fake.of(DEAD_LETTERS.name)


def node(driver: Driver, id_: str) -> dict[str, Any]:
    (record,) = driver.execute_query("MATCH (n:Entity {id: $id}) RETURN properties(n) AS p", id=id_).records
    return record["p"]


def changed(event: Event, **fields: Any) -> Event:
    return msgspec.structs.replace(event, **fields)


OLD, NEWER, NEWEST = (technique(1, FIRST_MS + ms) for ms in (0, 3, 5))


def test_constraints_are_created_once_also_if_one_exists_under_an_older_name(driver: Driver) -> None:
    driver.execute_query("DROP CONSTRAINT stream_position")
    driver.execute_query(
        "CREATE CONSTRAINT stream_place FOR (p:StreamPosition) REQUIRE (p.topic, p.partition) IS UNIQUE"
    )
    try:
        for _ in range(2):
            create_constraints(driver)
        names = driver.execute_query("SHOW CONSTRAINTS YIELD name RETURN collect(name)").records[0][0]
        assert set(names) == {"entity_id", "stream_place"}
    finally:
        driver.execute_query("DROP CONSTRAINT stream_place")
        create_constraints(driver)


@pytest.mark.parametrize("order", list(itertools.permutations((OLD, NEWER, NEWEST))))
@pytest.mark.parametrize("together", [True, False])
def test_an_older_revision_never_overwrites_a_newer_one(
    driver: Driver, order: Sequence[Event], together: bool
) -> None:
    edges = [uses(1, one.modified_ms) for one in order]
    pairs: list[Sequence[Event]] = [[one, edge] for one, edge in zip(order, edges, strict=True)]
    write_batches(driver, *([[*itertools.chain(*pairs)]] if together else pairs))
    assert node(driver, "T1001")["text"] == NEWEST.text
    nodes, found = stored_graph(driver)
    assert [edge[4] for edge in found] == [NEWEST.modified_ms]
    assert len(nodes) == 2


def test_of_two_revisions_with_the_same_date_the_later_one_is_kept(driver: Driver) -> None:
    write_batches(
        driver,
        [changed(technique(1), text="first")],
        [changed(technique(1), text="second"), changed(technique(1), text="third")],
    )
    assert node(driver, "T1001")["text"] == "third"


def test_a_revoked_entity_stays_in_the_graph_with_its_status(driver: Driver) -> None:
    write_batches(
        driver,
        [technique(1), uses(1), technique(2)],
        [
            technique(1, FIRST_MS + 1, status="revoked", revoked_by="T1002"),
            uses(1, FIRST_MS + 1, status="revoked"),
        ],
    )
    nodes, edges = stored_graph(driver)
    assert [(n[0], n[3]) for n in nodes] == [("T1001", "revoked"), ("T1002", "active"), ("intrusion-set--1", "")]
    assert [edge[5] for edge in edges] == ["revoked"]
    assert node(driver, "T1001")["revoked_by"] == "T1002"


def test_an_entity_that_only_edges_mention_is_one_bare_node_until_its_own_event_comes(driver: Driver) -> None:
    write_batches(driver, [uses(1), uses(8), template(1)], [uses(1, FIRST_MS + 1)])
    mentioned = [
        ("CVE-2024-1", (), 0, ""),
        ("T1001", (), 0, ""),
        ("T1008", (), 0, ""),
        ("intrusion-set--1", (), 0, ""),
    ]
    nodes, _ = stored_graph(driver)
    assert [n for n in nodes if n[0] in {m[0] for m in mentioned}] == mentioned

    write_batches(driver, [group(1), technique(1)])
    nodes, edges = stored_graph(driver)
    assert ("intrusion-set--1", ("Group",), FIRST_MS, "active") in nodes
    assert ("T1001", ("Technique",), FIRST_MS, "active") in nodes
    assert (len(nodes), len(edges)) == (5, 4)


def test_a_redelivery_changes_nothing_and_moves_no_position_back(driver: Driver) -> None:
    events = random_events(150, Random(1))
    write_batches(driver, events[:100], events[100:])
    before = stored_graph(driver), positions(driver)
    write_batches(driver, events[:60])
    write_batches(driver, events)
    assert (stored_graph(driver), positions(driver)) == before
    assert before == (expected_graph((event, offset) for offset, event in enumerate(events)), {(TOPIC, 0): 150})


@pytest.mark.parametrize("size", [1, 7, 150])
def test_any_division_into_batches_gives_the_same_graph(driver: Driver, size: int) -> None:
    events = random_events(150, Random(2))
    write_batches(driver, *(events[n : n + size] for n in range(0, len(events), size)))
    assert stored_graph(driver) == expected_graph((event, offset) for offset, event in enumerate(events))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"{nonsense", "undecodable"),
        (b"", "undecodable"),
        (encode(group(1)).replace(b"Group 1", b"\\ud800"), "undecodable"),
        (encode(group(1)).replace(str(FIRST_MS).encode(), b"9223372036854775808"), "out-of-range"),
        (encode(group(1)).replace(str(FIRST_MS).encode(), b"-1" + b"0" * 30), "out-of-range"),
        (changed(group(1), id="x" * 9_000), "too-long"),
        (changed(group(1), name="\N{SNOWMAN}" * 3_000), "too-long"),
        (changed(template(1), cves=("CVE-1", "x" * 9_000)), "too-long"),
        (changed(uses(1), target=changed(uses(1).target, id="x" * 9_000)), "too-long"),  # type: ignore[arg-type, union-attr]
    ],
)
def test_an_event_that_neo4j_can_not_store_becomes_a_dead_letter_and_the_others_are_written(
    driver: Driver, bad: Event | bytes, reason: str
) -> None:
    (letter,) = write_batches(driver, [group(2), bad, group(3)])
    assert (letter.origin, letter.reason) == (f"{TOPIC}/0/1", reason)
    assert [n[0] for n in stored_graph(driver)[0]] == ["intrusion-set--2", "intrusion-set--3"]
    assert positions(driver) == {(TOPIC, 0): 3}


@pytest.mark.parametrize(
    "strange",
    [
        changed(uses(1), relation="3-way"),
        changed(uses(1), relation="`]->() DETACH DELETE a //"),
        changed(uses(1), relation="¿?"),
        changed(group(1), kind="3com"),
        changed(group(1), kind="}) MATCH (n) DETACH DELETE n //"),
        changed(group(1), name="n" * 8_000),
        changed(group(1), name="a\0b"),
    ],
)
def test_unusual_names_and_types_are_stored_as_they_are(driver: Driver, strange: Event) -> None:
    assert write_batches(driver, [group(2), strange, group(3)]) == []
    assert stored_graph(driver) == expected_graph([(group(2), 0), (strange, 1), (group(3), 2)])


def test_a_neo4j_that_does_not_answer_raises_retry_later(driver: Driver) -> None:
    with (
        GraphDatabase.driver("bolt://127.0.0.1:1", max_transaction_retry_time=0.0) as unreachable,
        pytest.raises(RetryLater, match="check that it runs"),
    ):
        GraphSink(unreachable, FakeProducer(), FakeTopicIds()).write([message(group(1), 0)])  # type: ignore[arg-type]


def test_a_write_that_neo4j_refuses_raises_bad_configuration(driver: Driver) -> None:
    driver.execute_query("CREATE CONSTRAINT names FOR (n:Group) REQUIRE n.name IS UNIQUE")
    try:
        with pytest.raises(BadConfiguration, match="Neo4j failed while writing 2 events: ConstraintError"):
            write_batches(driver, [group(1), changed(group(2), name="Group 1")])
    finally:
        driver.execute_query("DROP CONSTRAINT names")
    assert stored_graph(driver) == ([], [])
    assert positions(driver) == {}


def test_a_topic_that_was_made_again_is_read_from_its_beginning_and_its_events_are_the_later_ones(
    driver: Driver,
) -> None:
    def sink(topic_id: str) -> GraphSink:
        return GraphSink(driver, FakeProducer(), FakeTopicIds(topic_id))  # type: ignore[arg-type]

    partition = TopicPartition(TOPIC, 0)
    edge = uses(1)
    sink("id-1").write(
        [message(changed(technique(1), text="first"), 50, topic=TOPIC), message(edge, 51, topic=TOPIC)]
    )
    assert sink("id-1").positions([partition]) == {partition: 52}
    assert sink("id-2").positions([partition]) == {partition: 0}
    sink("id-2").write([message(changed(technique(1), text="second"), 0, topic=TOPIC)])
    assert node(driver, "T1001")["text"] == "second"
    assert sink("id-2").positions([partition]) == {partition: 1}


def test_a_position_without_the_id_of_its_topic_is_of_the_topic_that_is_there(driver: Driver) -> None:
    partition = TopicPartition(TOPIC, 0)
    driver.execute_query("CREATE (:StreamPosition {topic: $topic, partition: 0, next: 7})", topic=TOPIC)
    for topic_id, position in (("id-1", 7), ("id-1", 7), ("id-2", 0)):
        sink = GraphSink(driver, FakeProducer(), FakeTopicIds(topic_id))  # type: ignore[arg-type]
        assert sink.positions([partition]) == {partition: position}


def test_nothing_is_written_once_a_topic_was_made_again(driver: Driver) -> None:
    sink = GraphSink(driver, FakeProducer(), FakeTopicIds(replaced=True))  # type: ignore[arg-type]
    with pytest.raises(RestartRequired):
        sink.write([message(technique(1), 0)])
    assert stored_graph(driver) == ([], [])
