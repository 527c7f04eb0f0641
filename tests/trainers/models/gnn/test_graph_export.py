"""The examples of an exported graph."""

from __future__ import annotations

import msgspec
import pytest

from schemas.errors import Corrupt
from schemas.journal import Node
from trainers.models.gnn.graph_export import examples_of_export


def test_an_export_has_the_examples_of_the_journal() -> None:
    node = {"id": "T1", "kind": "technique", "name": "One", "text": "said", "tactics": ["impact", "execution"]}
    edge = {
        "id": "r1", "source": "G1", "source_kind": "group", "relation": "uses", "target": "T1",
        "target_kind": "technique",
    }  # fmt: skip
    first, second = examples_of_export(msgspec.json.encode({"nodes": [node], "edges": [edge]}))
    assert (first.key, first.labels) == ("node:T1", ("execution", "impact"))
    assert (second.key, second.labels, second.link and second.link.target) == ("link:r1", ("uses:group",), "T1")
    with pytest.raises(Corrupt, match=r"threat_ontology\.json is no export"):
        examples_of_export(b'{"nodes": [{"kind": "x"}]}', "/some/threat_ontology.json")


def test_an_export_with_only_terms_and_relations_has_the_same_nodes_and_links() -> None:
    terms = [
        {"canonical_name": "PowerShell", "category": "technique", "aliases": ["T1059.001"], "definition": "said"},
        {"canonical_name": "Execution", "category": "tactic"},
        {"canonical_name": "APT", "category": "actor"},
        {"canonical_name": "Windows", "category": "platform"},
    ]
    relations = [
        {"source": "PowerShell", "target": "Execution", "relation_type": "belongs_to", "weight": 1.0},
        {"source": "APT", "target": "PowerShell", "relation_type": "uses", "weight": 1.0},
        {"source": "APT", "target": "Nobody", "relation_type": "uses", "weight": 1.0},
        {"source": "PowerShell", "target": "Windows", "relation_type": "related_to", "weight": 1.0},
    ]
    document = {"metadata": {}, "statistics": {}, "terms": terms, "relations": relations}
    actor, technique, link = examples_of_export(msgspec.json.encode(document))
    assert (technique.key, technique.labels) == ("node:T1059.001", ("execution",))
    assert technique.node == Node(id="T1059.001", kind="technique", name="PowerShell", text="said")
    assert (actor.key, actor.node and actor.node.kind) == ("node:APT", "group")
    assert (link.labels, link.link and link.link.target) == (("uses:group",), "T1059.001")


def test_nodes_count_where_a_file_has_terms_as_well_and_a_file_with_neither_is_an_error() -> None:
    node = {"id": "T1", "kind": "technique"}
    document = {
        "nodes": [node],
        "edges": [],
        "terms": [{"canonical_name": "x", "category": "tool"}],
        "relations": [],
    }
    assert [example.key for example in examples_of_export(msgspec.json.encode(document))] == ["node:T1"]
    for neither in (b"{}", b'{"techniques": []}'):
        with pytest.raises(Corrupt, match="neither `nodes` and `edges` nor `terms` and `relations`"):
            examples_of_export(neither)
