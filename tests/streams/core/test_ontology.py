"""The ontology is the graph that the journal of gnn-threat describes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import Event
from schemas.journal import Example, Link, Node, Source
from schemas.models import MODELS
from streams.core.ontology import Ontology, build_ontology
from streams.core.projections.base import project
from tests.streams.core.events import events, relationship, technique

GNN = MODELS[2]


def latest_examples(feed: list[Event]) -> dict[str, Example]:
    """The latest example of each key that is not retracted."""
    found = [example for event in feed if (example := project(GNN, event, Source("", 0, 0)))]
    latest = {example.key: example for example in found}
    return {key: example for key, example in latest.items() if not example.retracted}


def as_examples(graph: Ontology) -> dict[str, tuple[Node | Link, tuple[str, ...]]]:
    """Key -> node or link, and labels, as a reader of the document sees them."""
    nodes = {f"node:{n.id}": (Node(id=n.id, kind=n.kind, name=n.name, text=n.text), n.tactics) for n in graph.nodes}
    links = {
        f"link:{e.id}": (
            Link(
                source=e.source, source_kind=e.source_kind, relation=e.relation, target=e.target,
                target_kind=e.target_kind,
            ),
            (f"{e.relation}:{e.source_kind}",),
        )
        for e in graph.edges
    }  # fmt: skip
    return {**nodes, **links}


@given(st.lists(events(), max_size=40))
@settings(max_examples=100, deadline=None)
def test_it_has_the_nodes_links_and_labels_of_the_journal(feed: list[Event]) -> None:
    expected = {key: (one.node or one.link, one.labels) for key, one in latest_examples(feed).items()}
    assert as_examples(build_ontology(feed)) == expected


@given(st.lists(events(), max_size=40))
@settings(max_examples=50, deadline=None)
def test_it_does_not_depend_on_the_order_of_different_keys(feed: list[Event]) -> None:
    one_each = list({(type(event), event.id): event for event in feed}.values())
    assert build_ontology(one_each) == build_ontology(reversed(one_each))


def test_a_later_event_replaces_an_earlier_one_and_a_retraction_removes_it() -> None:
    feed = [
        technique("Old."),
        relationship("uses", "group"),
        technique("New."),
        relationship("uses", "group", status="revoked"),
    ]
    found = build_ontology(feed)
    assert [(node.id, node.text, node.tactics) for node in found.nodes] == [("T1003.001", "New.", ("impact",))]
    assert found.edges == ()
