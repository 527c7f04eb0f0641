"""The ontology is the graph that the journal of gnn-threat describes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import Event
from schemas.journal import Example, Link, Node, Source
from streams.core.ontology import Ontology, ontology
from streams.core.projections.base import project
from tests.streams.core.test_examples import GNN, events, relation, technique


def standing(feed: list[Event]) -> dict[str, Example]:
    """The latest example of each key that was not taken back."""
    found = [example for event in feed if (example := project(GNN, event, Source("", 0, 0)))]
    latest = {example.key: example for example in found}
    return {key: example for key, example in latest.items() if not example.retracted}


def as_examples(graph: Ontology) -> dict[str, tuple[Node | Link, tuple[str, ...]]]:
    """Key -> node or link, and labels, as a reader of the file makes them."""
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
def test_it_holds_what_stands_in_the_journal_with_the_same_words(feed: list[Event]) -> None:
    wanted = {key: (one.node or one.link, one.labels) for key, one in standing(feed).items()}
    assert as_examples(ontology(feed)) == wanted


@given(st.lists(events(), max_size=40))
@settings(max_examples=50, deadline=None)
def test_it_is_the_same_in_any_order_of_different_things(feed: list[Event]) -> None:
    one_each = list({(type(event), event.id): event for event in feed}.values())
    assert ontology(one_each) == ontology(reversed(one_each))


def test_the_later_counts_and_what_is_taken_back_goes() -> None:
    feed = [
        technique("Old."),
        relation("uses", "group"),
        technique("New."),
        relation("uses", "group", status="revoked"),
    ]
    found = ontology(feed)
    assert [(node.id, node.text, node.tactics) for node in found.nodes] == [("T1003.001", "New.", ("impact",))]
    assert found.edges == ()
