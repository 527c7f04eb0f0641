"""The graph of some examples."""

from __future__ import annotations

import msgspec

from schemas.journal import Link
from tests.trainers.journals import graph
from trainers.models.gnn.graph import build_graph, link_rows, without_links


def test_a_node_named_by_a_link_alone_has_no_text() -> None:
    link = Link(source="G9", source_kind="group", relation="uses", target="T9", target_kind="technique")
    one = msgspec.structs.replace(graph(1)[-1], link=link)
    known = build_graph([one])
    assert [(node.id, node.kind, node.text) for node in known.nodes] == [
        ("G9", "group", ""),
        ("T9", "technique", ""),
    ]
    assert link_rows(known)[0].label == "uses:group"
    assert build_graph([one], excluded_links=[link]).nodes == ()


def test_removed_links_are_no_edges_and_all_nodes_stay() -> None:
    whole = build_graph(graph(240))
    removed = next(one.link for one in graph(240) if one.link)
    less = without_links(whole, [removed, Link(**{**msgspec.structs.asdict(removed), "source": "unknown"})])
    assert less.nodes == whole.nodes
    assert less.edges.shape[1] == whole.edges.shape[1] - 1
    edges = {(less.nodes[a].id, less.nodes[b].id) for a, b in less.edges.T.tolist()}
    assert (removed.source, removed.target) not in edges
