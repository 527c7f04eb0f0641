"""The examples of an exported graph."""

from __future__ import annotations

import msgspec
import pytest

from schemas.errors import Corrupt
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
