"""The ontology has the terms and relations that the feeds state, and the same events give the same files."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import msgspec
import pytest

from schemas.events import Technique
from streams.content.current import current
from streams.content.ontology.files import FILE, OntologySummary, write_ontology
from streams.content.ontology.model import Term, ThreatOntology
from streams.content.ontology.terms import build_terms
from streams.content.ontology.vocabulary import CATEGORIES, RELATION_TYPES
from streams.core.ontology import build_ontology
from tests.flow.events import random_events
from tests.streams.content.ontology.events import world


@pytest.fixture(scope="module")
def ontology() -> ThreatOntology:
    return build_terms(current(world()))


def term(ontology: ThreatOntology, id_: str) -> Term:
    (found,) = (each for each in ontology.terms if each.id == id_)
    return found


def targets(ontology: ThreatOntology, source: str, relation: str) -> list[str]:
    return [r.target_id for r in ontology.relations if (r.source_id, r.relation_type) == (source, relation)]


def test_each_feed_states_its_relations_without_a_language_model(ontology: ThreatOntology) -> None:
    assert targets(ontology, "T1059", "belongs_to") == ["tactic:execution"]
    assert targets(ontology, "T1059", "targets") == ["platform:linux", "platform:windows"]
    assert targets(ontology, "T1059.001", "is_a") == ["T1059"]
    assert targets(ontology, "intrusion-set--1", "uses") == ["T1003", "T1059", "malware--1"]
    assert targets(ontology, "atomic-red-team:9", "implements") == ["T1059"]
    assert targets(ontology, "course-of-action--1", "mitigates") == ["T1059"]
    assert targets(ontology, "nuclei-templates:CVE-2021-44228", "detects") == ["CVE-2021-44228", "CVE-2099-1000"]
    assert term(ontology, "tactic:credential-access").canonical_name == "Credential Access"
    assert term(ontology, "tactic:execution").aliases == ("execution", "TA0002")
    shell = term(ontology, "T1059")
    assert (shell.category, shell.aliases, shell.rfc_sources) == ("technique", ("T1059",), ("T1059",))
    assert shell.definition == "Adversaries abuse shells. O'Neil's \\ \"way\"."


def test_a_rule_on_a_revoked_technique_detects_its_successor(ontology: ThreatOntology) -> None:
    assert targets(ontology, "sigma:1111-2222", "detects") == ["T1059.001", "T1685"]
    assert "T1562.001" not in {each.id for each in ontology.terms}


def test_what_no_feed_describes_is_counted_and_not_related(ontology: ThreatOntology) -> None:
    ids = {each.id for each in ontology.terms}
    assert all({r.source_id, r.target_id} <= ids for r in ontology.relations)
    assert ontology.statistics.left_out == 1  # T9999


def test_every_category_and_relation_is_of_the_vocabulary_and_the_numbers_add_up(ontology: ThreatOntology) -> None:
    assert {each.category for each in ontology.terms} <= set(CATEGORIES)
    assert {each.relation_type for each in ontology.relations} <= set(RELATION_TYPES)
    assert sum(ontology.statistics.categories.values()) == len(ontology.terms) == ontology.statistics.total_terms
    assert sum(each.frequency - 1 for each in ontology.terms) == 2 * len(ontology.relations)
    assert all(0 <= r.delta_angle <= 1 and 0 <= r.weight <= 1 for r in ontology.relations)


def test_the_same_events_give_the_same_bytes_and_the_graph_of_the_journal_is_in_the_file(tmp_path: Path) -> None:
    events = world() + random_events(200, Random(5))
    first, second = (write_ontology(events, tmp_path / name) for name in ("a", "b"))
    assert msgspec.structs.replace(second, output=first.output) == first
    for name in first.files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    graph = build_ontology(events)
    found = msgspec.json.decode((tmp_path / "a" / FILE).read_bytes(), type=ThreatOntology)
    assert (found.nodes, found.edges) == (graph.nodes, graph.edges)
    keys = ["metadata", "statistics", "terms", "relations", "nodes", "edges"]
    assert list(json.loads((tmp_path / "a" / FILE).read_bytes())) == keys
    assert isinstance(first, OntologySummary)
    assert first.terms == len(found.terms) > 5


def test_the_order_of_the_feeds_changes_no_byte(tmp_path: Path) -> None:
    first = write_ontology(world(), tmp_path / "a")
    write_ontology(reversed(world()), tmp_path / "b")
    for name in first.files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_later_event_replaces_an_earlier_and_what_is_withdrawn_is_gone() -> None:
    events = world()
    gone = msgspec.structs.replace(events[2], status="withdrawn")
    assert isinstance(gone, Technique)
    ids = {each.id for each in build_terms(current([*events, gone])).terms}
    assert "T1003" not in ids
    assert "T1059" in ids
