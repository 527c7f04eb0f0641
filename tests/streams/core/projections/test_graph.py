"""The examples of gnn-threat."""

from __future__ import annotations

from schemas.events import Entity
from schemas.journal import Link, Node, Source
from schemas.models import MODELS
from streams.core.projections.base import project
from tests.streams.core.events import FEED, relationship, technique

GNN = MODELS[2]
SOURCE = Source("threat.test", 0, 0)


def test_techniques_and_entities_are_nodes_and_relationships_are_links() -> None:
    group = Entity(id="intrusion-set--1", kind="group", name="APT0", text="[A](https://x.test) group.", **FEED)
    node, entity, link = (project(GNN, e, SOURCE) for e in (technique(), group, relationship("uses", "group")))
    assert node is not None
    assert entity is not None
    assert link is not None
    assert (node.key, node.labels) == ("node:T1003.001", ("impact",))
    assert node.node == Node(id="T1003.001", kind="technique", name="Dump", text="Adversaries may.")
    assert (entity.key, entity.labels) == ("node:intrusion-set--1", ())
    assert entity.node == Node(id="intrusion-set--1", kind="group", name="APT0", text="A group.")
    assert (link.key, link.labels, link.text) == ("link:relationship--1", ("uses:group",), "")
    assert link.link == Link(
        source="group--1", source_kind="group", relation="uses", target="T1003.001", target_kind="technique"
    )


def test_entities_without_relationships_and_revocations_are_not_in_the_graph() -> None:
    assert project(GNN, Entity(id="x-mitre-tactic--1", kind="tactic", name="Impact", **FEED), SOURCE) is None
    assert project(GNN, relationship("revoked-by", "group"), SOURCE) is None
