"""The graph as a file."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from schemas.errors import BadConfiguration
from streams.content.graph_export import read_ontology, write_ontology
from streams.core.ontology import build_ontology
from tests.flow.events import random_events


def test_an_ontology_is_read_as_it_was_written_and_nothing_else_is(tmp_path: Path) -> None:
    found = build_ontology(random_events(200, Random(5)))
    path = tmp_path / "new" / "threat_ontology.json"
    write_ontology(path, found)
    assert read_ontology(path) == found
    assert len(found.nodes) > 5
    path.write_text('{"nodes": [{"id": 1}]}')
    for wrong in (path, tmp_path / "missing.json"):
        with pytest.raises(BadConfiguration, match="sx9 export ontology"):
            read_ontology(wrong)
