"""An older ontology is merged by key: nothing of it is lost, and what the feeds say counts."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import msgspec
import pytest

from schemas.errors import BadConfiguration
from streams.content.current import current
from streams.content.ontology.files import FILE, write_ontology
from streams.content.ontology.merging import merge, read_older
from streams.content.ontology.model import ThreatOntology
from streams.content.ontology.terms import build_terms
from tests.streams.content.ontology.events import world

OLDER = {
    "metadata": {"extracted_at": "2025-12-01", "source": "x", "version": "1.0"},
    "statistics": {"top_terms": [["Shell", 3]]},
    "terms": [
        {
            "sch_id": "s",
            "canonical_name": "command shell",
            "category": "technique",
            "aliases": ["T1059"],
            "frequency": 9,
        },
        {"sch_id": "s", "canonical_name": 'o\'shady \\ "bear"', "category": "actor", "rfc_sources": ["RFC-1"]},
        {"sch_id": "s", "canonical_name": "Murmur3", "category": "hash", "definition": "A hash."},
        {"sch_id": "s", "canonical_name": "Zero Trust", "category": "security"},
        {"sch_id": "s", "canonical_name": "Execution", "category": "tactic"},
    ],
    "relations": [
        {"source": "command shell", "target": "Execution", "relation_type": "belongs_to", "weight": 0.5},
        {"source": "command shell", "target": "Murmur3", "relation_type": "hashes", "weight": 7},
        {"source": "command shell", "target": "Nobody", "relation_type": "uses"},
    ],
}


def test_a_term_of_both_is_one_and_one_of_the_older_alone_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "ontology_raw.json").write_text(json.dumps(OLDER))
    alone = build_terms(current(world()))
    with caplog.at_level(logging.WARNING):
        write_ontology(world(), tmp_path)
    found = msgspec.json.decode((tmp_path / FILE).read_bytes(), type=ThreatOntology)
    terms = {term.id: term for term in found.terms}
    assert set(terms) - {term.id for term in alone.terms} == {"hash:murmur3", "security:zero trust"}
    assert terms["T1059"].canonical_name == "Command and Scripting Interpreter"
    assert terms["T1059"].aliases == ("T1059", "command shell")
    assert terms["intrusion-set--1"].rfc_sources == ("G0016", "attack-enterprise", "RFC-1")
    assert terms["security:zero trust"].category == "domain"
    added = set(found.relations) - set(alone.relations)
    assert {(r.source_id, r.relation_type, r.target_id, r.weight) for r in added} == {
        ("T1059", "related_to", "hash:murmur3", 1.0)
    }
    assert found.statistics.left_out == alone.statistics.left_out + 1
    assert "'security' became 'domain'" in caplog.text
    assert "1 relations are left out" in caplog.text


def test_merging_an_ontology_with_itself_changes_nothing(tmp_path: Path) -> None:
    write_ontology(world(), tmp_path)
    alone = build_terms(current(world()))
    assert merge(alone, read_older(tmp_path / FILE)) == alone


def test_what_is_no_ontology_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "ontology_raw.json").write_text('{"techniques": []}')
    with pytest.raises(BadConfiguration, match="mend it, or move it away"):
        write_ontology(world(), tmp_path)
    with pytest.raises(BadConfiguration, match=r"missing\.json is not an ontology to merge"):
        write_ontology(world(), tmp_path / "new", tmp_path / "missing.json")
