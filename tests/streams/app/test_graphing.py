"""The graph is what the newest revisions say, in whatever order and how often they come."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import msgspec
import pytest
from neo4j import Driver, GraphDatabase

from schemas.codec import encode
from schemas.errors import BadConfiguration, RetryLater
from schemas.events import Event
from schemas.topics import DEAD_LETTERS
from streams.app.graph_sink import GraphSink, create_constraints
from streams.local.services import Endpoints
from streams.settings import Settings
from tests.flow.graph import as_said, in_neo4j, positions
from tests.flow.material import FIRST_MS, group, news, technique, template, uses
from tests.streams.app.messages import Box, message, messages

TOPIC = "threat.test"


@pytest.fixture
def driver(service_settings: Settings, neo4j_endpoint: Endpoints) -> Iterator[Driver]:
    """To an empty graph."""
    if service_settings.neo4j_uri:
        pytest.skip("deletes everything: not in a Neo4j that somebody configured")
    with GraphDatabase.driver(neo4j_endpoint.neo4j_uri) as driver:
        create_constraints(driver)
        driver.execute_query("MATCH (n) DETACH DELETE n")
        yield driver


def taken(driver: Driver, *batches: Sequence[Event | bytes]) -> list[Any]:
    """Give events to the graph, batch by batch; the dead letters."""
    box, offset = Box(), 0
    for batch in batches:
        GraphSink(driver, box).take(messages(batch, offset, TOPIC))  # type: ignore[arg-type]
        offset += len(batch)
    return box.of(DEAD_LETTERS.name)


def node(driver: Driver, id_: str) -> dict[str, Any]:
    (record,) = driver.execute_query("MATCH (n:Entity {id: $id}) RETURN properties(n) AS p", id=id_).records
    return record["p"]


def changed(event: Event, **fields: Any) -> Event:
    return msgspec.structs.replace(event, **fields)


OLD, NEWER, NEWEST = (technique(1, FIRST_MS + ms) for ms in (0, 3, 5))


@pytest.mark.parametrize("order", list(itertools.permutations((OLD, NEWER, NEWEST))))
@pytest.mark.parametrize("together", [True, False])
def test_an_older_revision_never_overwrites_a_newer_one(
    driver: Driver, order: Sequence[Event], together: bool
) -> None:
    edges = [uses(1, one.modified_ms) for one in order]
    pairs: list[Sequence[Event]] = [[one, edge] for one, edge in zip(order, edges, strict=True)]
    taken(driver, *([[*itertools.chain(*pairs)]] if together else pairs))
    assert node(driver, "T1001")["text"] == NEWEST.text
    nodes, found = in_neo4j(driver)
    assert [edge[4] for edge in found] == [NEWEST.modified_ms]
    assert len(nodes) == 2


def test_of_two_with_the_same_date_the_later_one_stays(driver: Driver) -> None:
    taken(
        driver,
        [changed(technique(1), text="first")],
        [changed(technique(1), text="second"), changed(technique(1), text="third")],
    )
    assert node(driver, "T1001")["text"] == "third"


def test_what_is_revoked_stays_and_says_so(driver: Driver) -> None:
    taken(
        driver,
        [technique(1), uses(1), technique(2)],
        [
            technique(1, FIRST_MS + 1, status="revoked", revoked_by="T1002"),
            uses(1, FIRST_MS + 1, status="revoked"),
        ],
    )
    nodes, edges = in_neo4j(driver)
    assert [(n[0], n[3]) for n in nodes] == [("T1001", "revoked"), ("T1002", "active"), ("intrusion-set--1", "")]
    assert [edge[5] for edge in edges] == ["revoked"]
    assert node(driver, "T1001")["revoked_by"] == "T1002"


def test_what_only_edges_mention_is_there_once_and_bare_until_it_is_told(driver: Driver) -> None:
    taken(driver, [uses(1), uses(8), template(1)], [uses(1, FIRST_MS + 1)])
    mentioned = [
        ("CVE-2024-1", (), 0, ""),
        ("T1001", (), 0, ""),
        ("T1008", (), 0, ""),
        ("intrusion-set--1", (), 0, ""),
    ]
    nodes, _ = in_neo4j(driver)
    assert [n for n in nodes if n[0] in {m[0] for m in mentioned}] == mentioned

    taken(driver, [group(1), technique(1)])
    nodes, edges = in_neo4j(driver)
    assert ("intrusion-set--1", ("Group",), FIRST_MS, "active") in nodes
    assert ("T1001", ("Technique",), FIRST_MS, "active") in nodes
    assert (len(nodes), len(edges)) == (5, 4)


def test_a_second_delivery_changes_nothing_and_moves_no_position_back(driver: Driver) -> None:
    events = news(150, Random(1))
    taken(driver, events[:100], events[100:])
    before = in_neo4j(driver), positions(driver)
    taken(driver, events[:60])
    taken(driver, events)
    assert (in_neo4j(driver), positions(driver)) == before
    assert before == (as_said((event, offset) for offset, event in enumerate(events)), {(TOPIC, 0): 150})


@pytest.mark.parametrize("size", [1, 7, 150])
def test_any_division_into_batches_gives_the_same_graph(driver: Driver, size: int) -> None:
    events = news(150, Random(2))
    taken(driver, *(events[n : n + size] for n in range(0, len(events), size)))
    assert in_neo4j(driver) == as_said((event, offset) for offset, event in enumerate(events))


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
def test_what_the_graph_can_not_hold_is_a_dead_letter_and_the_rest_goes_on(
    driver: Driver, bad: Event | bytes, reason: str
) -> None:
    (letter,) = taken(driver, [group(2), bad, group(3)])
    assert (letter.origin, letter.reason) == (f"{TOPIC}/0/1", reason)
    assert [n[0] for n in in_neo4j(driver)[0]] == ["intrusion-set--2", "intrusion-set--3"]
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
def test_strange_words_of_a_feed_are_words_in_the_graph(driver: Driver, strange: Event) -> None:
    assert taken(driver, [group(2), strange, group(3)]) == []
    assert in_neo4j(driver) == as_said([(group(2), 0), (strange, 1), (group(3), 2)])


def test_a_neo4j_that_does_not_answer_is_a_matter_of_time(driver: Driver) -> None:
    with (
        GraphDatabase.driver("bolt://127.0.0.1:1", max_transaction_retry_time=0.0) as nobody,
        pytest.raises(RetryLater, match="check that it runs"),
    ):
        GraphSink(nobody, Box()).take([message(group(1), 0)])  # type: ignore[arg-type]


def test_a_neo4j_that_refuses_is_a_matter_for_a_person(driver: Driver) -> None:
    driver.execute_query("CREATE CONSTRAINT names FOR (n:Group) REQUIRE n.name IS UNIQUE")
    try:
        with pytest.raises(BadConfiguration, match="Neo4j failed while writing 2 events: ConstraintError"):
            taken(driver, [group(1), changed(group(2), name="Group 1")])
    finally:
        driver.execute_query("DROP CONSTRAINT names")
    assert in_neo4j(driver) == ([], [])
    assert positions(driver) == {}
