"""The rows of events, and the newest revision of each in a batch."""

from __future__ import annotations

import re
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import Entity, Event, Template
from streams.core.graph_rows import GraphRows, batch_rows, edge_type, event_rows, node_label
from tests.streams.core.events import events, relationship, technique


@given(st.text(max_size=30))
def test_labels_and_types_are_safe_in_a_statement(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9]+", node_label(text))
    assert re.fullmatch(r"[A-Z0-9_]+", edge_type(text))


@given(st.lists(events(), max_size=20), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_a_batch_has_the_newest_revision_of_each_row_in_any_order(feed: list[Event], seed: int) -> None:
    numbered = [(event, offset) for offset, event in enumerate(feed)]
    shuffled = Random(seed).sample(numbered, len(numbered))
    rows, other = batch_rows(numbered), batch_rows(shuffled)
    assert {node.id: node for node in rows.nodes} == {node.id: node for node in other.nodes}
    assert {edge.id: edge for edge in rows.edges} == {edge.id: edge for edge in other.edges}


def test_an_older_release_does_not_replace_a_newer_one_that_came_before_it() -> None:
    new, old = technique("New.", modified_ms=2), technique("Old.", modified_ms=1)
    (node,) = batch_rows([(new, 0), (old, 1)]).nodes
    assert (node.label, node.id, node.revision, node.properties["text"]) == (
        "Technique",
        "T1003.001",
        (2, 0),
        "New.",
    )


def test_a_template_refers_to_each_technique_and_vulnerability_once() -> None:
    template = Template(id="n:1", feed="n", name="A", techniques=("T1", "T1"), cves=("CVE-1",), tags=("cve",))
    rows = event_rows(template, 3)
    assert [(edge.type, edge.id, edge.source, edge.target) for edge in rows.edges] == [
        ("REFERENCES", "n:1>T1", "n:1", "T1"),
        ("REFERENCES", "n:1>CVE-1", "n:1", "CVE-1"),
    ]
    assert rows.nodes[0].properties["tags"] == ["cve"]


def test_an_entity_is_a_node_of_its_kind_and_a_relationship_is_an_edge() -> None:
    (node,) = event_rows(Entity(id="x--1", feed="f", kind="data-component", name="X"), 0).nodes
    (edge,) = event_rows(relationship("uses", "group"), 0).edges
    assert node.label == "DataComponent"
    assert (edge.type, edge.source, edge.target) == ("USES", "group--1", "T1003.001")


def test_an_entity_refers_to_the_techniques_and_vulnerabilities_it_is_about_but_not_to_itself() -> None:
    entity = Entity(
        id="CVE-1", feed="f", kind="vulnerability", name="A", techniques=("T1",), cves=("CVE-1", "CVE-2")
    )
    assert [edge.id for edge in event_rows(entity, 0).edges] == ["CVE-1>T1", "CVE-1>CVE-2"]


def test_an_empty_batch_has_no_rows() -> None:
    assert batch_rows([]) == GraphRows()
