"""The Cypher file, loaded into a real Neo4j, answers the queries of RFC-9021."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from neo4j import Driver

from schemas.codec import encode
from schemas.events import Event, Relationship
from streams.app.graph_sink import GraphSink, create_constraints
from streams.content.ontology import cypher_rows
from streams.content.ontology.files import write_ontology
from streams.content.ontology.reports import ExtractedReport
from streams.local.services import Endpoints
from streams.settings import Settings
from tests.streams.app.messages import FakeProducer, FakeTopicIds, messages
from tests.streams.content.ontology.events import technique, world
from tests.streams.content.ontology.test_reports import REPORT, said
from transport.neo4j import neo4j_driver

STRANGE = "C:\\users\\new \\u0041 'single' \"double\" `tick` \u2028 \x7f ; \r\n;\n// {x: $y} é 漢 \U0001f600"


@pytest.fixture
def driver(service_settings: Settings, neo4j_endpoint: Endpoints) -> Iterator[Driver]:
    """A driver of an empty graph."""
    if service_settings.neo4j_uri:
        pytest.skip("deletes everything: not in a configured Neo4j")
    with neo4j_driver(neo4j_endpoint.neo4j_uri) as driver:
        driver.execute_query("MATCH (n) DETACH DELETE n")
        yield driver
        driver.execute_query("MATCH (n) DETACH DELETE n")


def load(driver: Driver, folder: Path, events: list[Event], reports: tuple[ExtractedReport, ...] = ()) -> None:
    write_ontology(events, folder, reports=reports)
    for statement in (folder / "threat_ontology.cypher").read_text(encoding="utf-8").split(";\n"):
        if statement.strip():
            driver.execute_query(statement)  # type: ignore[arg-type]


def rows(driver: Driver, query: str, **parameters: Any) -> list[list[Any]]:
    return sorted(record.values() for record in driver.execute_query(query, parameters).records)  # type: ignore[arg-type]


def counts(driver: Driver) -> list[list[Any]]:
    return rows(driver, "MATCH (n) RETURN count(n), 0") + rows(driver, "MATCH ()-[r]->() RETURN type(r), count(r)")


def test_the_queries_find_what_they_ask_for_and_loading_twice_changes_nothing(
    driver: Driver, tmp_path: Path
) -> None:
    events = [*world(), technique("T1234", STRANGE, "impact", text=STRANGE)]
    load(driver, tmp_path, events)
    once = counts(driver)
    load(driver, tmp_path, events)
    assert counts(driver) == once
    actor = "MATCH (a:ThreatActor {id: 'G0016'})"
    assert rows(driver, f"{actor}-[:USES]->(t:Technique) RETURN t.id") == [["T1003"], ["T1059"]]
    assert rows(driver, f"{actor} RETURN a.name, a.aliases, 'Group' IN labels(a)") == [
        ['O\'Shady \\ "Bear"', ["Cozy"], True]
    ]
    rule = [["Suspicious 'Shell'", "stable", "informational", "sigma"]]
    found = "RETURN r.title, r.status, r.level, r.rule_type"
    assert rows(driver, f"MATCH (:Technique {{id: 'T1059.001'}})-[:DETECTED_BY]->(r:DetectionRule) {found}") == rule
    assert rows(driver, f"MATCH (r:DetectionRule)-[:DETECTS]->(:Technique {{id: 'T1685'}}) {found}") == rule
    shell = "(:Technique {id: 'T1059'})"
    assert rows(driver, f"MATCH {shell}-[:MITIGATED_BY]->(m:Mitigation) RETURN m.id, m.d3fend_id") == [
        ["M1038", None], ["d3f:FileHashing", "d3f:FileHashing"],
    ]  # fmt: skip
    assert rows(driver, f"MATCH (o:OffensiveTool)-[:IMPLEMENTS]->{shell} RETURN o.package_name") == [["Wiper"]]
    assert rows(driver, f"MATCH {shell}-[:DETECTED_BY]->(d:DetectionMethod) RETURN d.name") == [
        ["Process Creation"]
    ]
    assert rows(driver, f"MATCH (x:Test)-[:TESTS]->{shell} MATCH (x)-[:RUNS_ON]->(p:Platform) RETURN p.name") == [
        ["Linux"], ["Windows"],
    ]  # fmt: skip
    assert rows(driver, f"MATCH {shell}-[:BELONGS_TO]->(t:Tactic {{name: 'Execution'}}) RETURN t.id") == [
        ["TA0002"]
    ]
    assert rows(driver, f"MATCH {shell}-[:TARGETS]->(:Platform {{name: 'Linux'}}) RETURN 1") == [[1]]
    assert rows(driver, f"MATCH (t:Technique)-[:SUBTECHNIQUE_OF]->{shell} RETURN t.id") == [["T1059.001"]]
    assert rows(driver, "MATCH (t:Technique {id: 'T1234'}) RETURN t.name, t.platforms") == [[STRANGE, []]]


def test_attack_paths_of_several_actors_are_found(driver: Driver, tmp_path: Path) -> None:
    events = [event for event in world() if "campaign--1-uses" not in event.id]
    (edge,) = (e for e in world() if e.id == "relationship--intrusion-set--1-uses-T1059")
    events += [edge_of(edge, "intrusion-set--2")]
    load(driver, tmp_path, events)
    path = "MATCH p = shortestPath((:Technique {id: 'T1059'})-[:FOLLOWED_BY*..5]->(:Technique {id: 'T1003'}))"
    assert rows(driver, f"{path} RETURN length(p), relationships(p)[0].actors") == [[1, 2]]


def test_reports_mention_techniques_and_cves_with_their_sentences(driver: Driver, tmp_path: Path) -> None:
    named = msgspec.structs.replace(REPORT, statements=(*REPORT.statements, said("intrusion-set--1", 0.5, 99)))
    load(driver, tmp_path, world(), (named,))
    mentions = "MATCH (:Report {name: 'night.pdf'})-[m:MENTIONS]->(e:Entity)"
    assert rows(driver, f"{mentions} RETURN e.id, m.confidence, size(m.sentences)") == [
        ["CVE-2031-0001", 1.0, 1], ["T1059", 0.9, 2], ["T1685", 1.0, 1],
    ]  # fmt: skip
    actors = "MATCH (:Report {name: 'night.pdf'})-[m:MENTIONS]->(a:ThreatActor) RETURN a.id, m.confidence"
    assert rows(driver, actors) == [["G0016", 0.5]]


def test_more_rows_than_one_statement_has_are_all_there(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(driver, tmp_path, world())
    whole = counts(driver)
    driver.execute_query("MATCH (n) DETACH DELETE n")
    monkeypatch.setattr(cypher_rows, "MAX_ROWS", 1)
    load(driver, tmp_path, world())
    assert counts(driver) == whole


def test_in_our_own_graph_techniques_are_the_same_nodes_and_actors_are_linked(
    driver: Driver, tmp_path: Path
) -> None:
    events = world()
    create_constraints(driver)
    sent = messages([encode(event) for event in events], 0, "threat.test")
    GraphSink(driver, FakeProducer(), FakeTopicIds()).write(sent)  # type: ignore[arg-type]
    load(driver, tmp_path, events)
    assert rows(driver, "MATCH (t:Technique {id: 'T1059'}) RETURN labels(t), t.stix_id, t.status") == [
        [["Entity", "Technique"], "attack-pattern--T1059", "active"]
    ]
    same = "MATCH (a:ThreatActor {id: 'G0016'})-[:SAME_AS]->(g:Entity:Group) RETURN g.id, g.status"
    assert rows(driver, same) == [["intrusion-set--1", "active"]]
    assert rows(driver, "MATCH (t:Entity:Technique {id: 'T1562.001'}) RETURN t.status") == [["revoked"]]


def edge_of(edge: Event, source: str) -> Event:
    """The same edge from another group."""
    assert isinstance(edge, Relationship)
    ends = {"source": msgspec.structs.replace(edge.source, id=source)}
    return msgspec.structs.replace(edge, id=f"relationship--{source}", **ends)
