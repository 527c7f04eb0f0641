"""What a lineage change leaves out is gone from the graph, as if it had never come, and comes back with a lift."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from neo4j import Driver

from schemas.events import Event
from schemas.journal import Source
from schemas.topics import VERSIONS
from schemas.versions import VersionEvent
from streams.app import graph_exclusions
from streams.app.graph_sink import GRAPH_MODEL, GraphSink
from streams.app.sink import ConsumedMessage
from streams.core.graph_exclusions import is_left_out
from tests.flow.events import group, random_events, technique, template, uses
from tests.flow.graph import expected_graph, stored_graph
from tests.streams.app.messages import FakeProducer, FakeTopicIds, message, messages
from tests.streams.app.test_graph_sink import changed, driver

__all__ = ["driver"]

TOPIC = "threat.test"
ODD = ("feed=odd",)


class Killed(Exception):
    pass


def of_two_feeds(count: int, seed: int) -> list[Event]:
    """Events about the same few entities, some of them of the feed `odd`."""
    random = Random(seed)
    return [changed(e, feed=random.choice(("even", "odd", "even"))) for e in random_events(count, random)]


class Graph:
    """A graph that is written from a topic, which grows."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.log: list[ConsumedMessage] = []
        self.versions = 0

    def sink(self) -> GraphSink:
        """A worker, with no memory of what others did."""
        fake: Any = FakeProducer()
        ids: Any = FakeTopicIds()
        return GraphSink(self.driver, fake, ids, lambda: iter([self.log] if self.log != [] else []))

    def come(self, events: Sequence[Event]) -> None:
        new = messages(events, len(self.log), TOPIC)
        self.log += new
        self.sink().write(new)

    def leave_out(self, *names: str, model: str = GRAPH_MODEL) -> None:
        event = VersionEvent(model=model, version="v1001", outcome="promoted", request="r", exclusions=names)
        self.sink().write([message(event, self.versions, topic=VERSIONS.name)])
        self.versions += 1

    def expected(self, events: Sequence[Event], *names: str) -> Any:
        """What the graph would be had the events that are left out never come."""
        placed = ((event, offset) for offset, event in enumerate(events))
        return expected_graph(p for p in placed if not is_left_out(p[0], Source(TOPIC, 0, p[1]), names))


@pytest.fixture
def world(driver: Driver) -> Graph:
    driver.execute_query("MATCH (e:GraphExclusions) DELETE e")
    return Graph(driver)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_graph_is_as_if_the_feed_had_never_come_and_after_a_lift_as_if_it_was_never_left_out(
    world: Graph, seed: int
) -> None:
    events = of_two_feeds(160, seed)
    world.come(events[:90])
    world.leave_out(*ODD)
    assert stored_graph(world.driver) == world.expected(events[:90], *ODD)
    world.come(events[90:130])
    assert stored_graph(world.driver) == world.expected(events[:130], *ODD)
    one = f"source={TOPIC}/0/3"
    world.leave_out(one)
    assert stored_graph(world.driver) == world.expected(events[:130], one)
    world.leave_out()
    world.come(events[130:])
    assert stored_graph(world.driver) == world.expected(events)


def test_a_graph_that_is_made_again_leaves_out_the_same_whatever_comes_first(world: Graph) -> None:
    events = of_two_feeds(60, 3)
    world.come(events)
    world.leave_out(*ODD)
    before = stored_graph(world.driver)
    for first in (True, False):
        world.driver.execute_query("MATCH (n) DETACH DELETE n")
        if first:
            world.leave_out(*ODD)
        world.sink().write(world.log)
        if not first:
            world.leave_out(*ODD)
        assert stored_graph(world.driver) == before


def test_of_an_entity_neither_its_node_nor_its_edges_are_left(world: Graph) -> None:
    events: list[Event] = [technique(1), technique(2), group(1), uses(1), uses(8), template(1), template(2)]
    world.come(events)
    whole = stored_graph(world.driver)
    world.leave_out("entity=T1001")
    world.come([uses(1, uses(1).modified_ms + 1)])
    nodes, edges = stored_graph(world.driver)
    assert "T1001" in {node[0] for node in whole[0]}
    assert "T1001" not in {node[0] for node in nodes} | {end for edge in edges for end in edge[2:4]}
    assert {"T1002", "intrusion-set--1"} <= {node[0] for node in nodes}
    world.leave_out()
    assert {"T1001"} <= {node[0] for node in stored_graph(world.driver)[0]}
    assert stored_graph(world.driver) == world.expected([*events, uses(1, uses(1).modified_ms + 1)])


def test_what_others_say_of_a_node_stays_and_so_does_its_embedding(world: Graph) -> None:
    here = technique(1)
    poisoned = changed(technique(1, here.modified_ms + 9), feed="odd", text="harmless")
    world.come([here, poisoned, changed(group(1), feed="odd"), changed(uses(1), feed="odd")])
    world.driver.execute_query("MATCH (n:Entity) SET n.gnn_threat_v0001 = [0.5, 1.0]")
    world.leave_out(*ODD)
    (found,) = world.driver.execute_query("MATCH (n:Entity) RETURN properties(n) AS p, labels(n) AS labels").records
    assert (found["p"]["id"], found["p"]["text"], found["p"]["feed"]) == ("T1001", here.text, here.feed)
    assert found["p"]["gnn_threat_v0001"] == [0.5, 1.0]
    assert set(found["labels"]) == {"Entity", "Technique"}


@pytest.mark.parametrize("place", ["_touched", "_remove", "_write_again"])
def test_a_worker_that_is_killed_while_it_forgets_begins_again(
    world: Graph, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    events = of_two_feeds(80, 4)
    world.come(events)
    does = getattr(graph_exclusions.GraphExclusions, place)

    def dies(*given: Any) -> Any:
        does(*given)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(graph_exclusions.GraphExclusions, place, dies)
        with pytest.raises(Killed):
            world.leave_out(*ODD)
    world.come([changed(template(8), feed="odd")])
    world.leave_out(*ODD)
    assert stored_graph(world.driver) == world.expected([*events, changed(template(8), feed="odd")], *ODD)


def test_what_another_model_leaves_out_stays_in_the_graph_and_the_same_change_reads_nothing_again(
    world: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = of_two_feeds(30, 5)
    world.come(events)
    world.leave_out(*ODD, model="distilbert-mitre")
    assert stored_graph(world.driver) == world.expected(events)
    world.leave_out(*ODD)
    monkeypatch.setattr(world, "log", None)  # reading it would fail
    world.leave_out(*ODD)
    assert stored_graph(world.driver) == world.expected(events, *ODD)
