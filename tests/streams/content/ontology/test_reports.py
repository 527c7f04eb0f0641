"""What reports in free text say is in the ontology, with its sentence and a confidence."""

from __future__ import annotations

from pathlib import Path

import msgspec

from schemas.ids import is_cve
from streams.content.current import current
from streams.content.ontology.files import FILE, write_ontology
from streams.content.ontology.model import Relation, SourceSpan, ThreatOntology
from streams.content.ontology.reports import ExtractedReport, Statement, add_reports, valid_reports
from streams.content.ontology.terms import build_terms
from tests.streams.content.ontology.events import world


def said(target: str, confidence: float, start: int = 0) -> Statement:
    return Statement(target, SourceSpan(start, start + 9, f"Sentence {start}.", confidence, "stated"))


REPORT = ExtractedReport(
    "report:1", "night.pdf",
    (
        said("T1059", 0.7), said("T1059", 0.9, 20), said("T1562.001", 1.0, 40), said("tactic:execution", 0.8, 40),
        said("CVE-2031-0001", 1.0, 60), said("T9999", 1.0, 80),
    ),
)  # fmt: skip


def relations_of(ontology: ThreatOntology) -> dict[str, Relation]:
    return {each.target_id: each for each in ontology.relations if each.source_id == "report:1"}


def test_each_statement_has_its_places_and_the_successor_of_a_revoked_technique_is_mentioned() -> None:
    content = current(world())
    alone = build_terms(content)
    found = add_reports(alone, list(valid_reports([REPORT, REPORT], content)))
    relations = relations_of(found)
    assert {key: (r.relation_type, r.weight) for key, r in relations.items()} == {
        "T1059": ("mentions", 0.9), "T1685": ("mentions", 1.0), "tactic:execution": ("mentions", 0.8),
        "CVE-2031-0001": ("mentions", 1.0),
    }  # fmt: skip
    spans = relations["T1059"].spans
    assert spans is not msgspec.UNSET
    assert [(span.start, span.confidence) for span in spans] == [(0, 0.7), (20, 0.9)]
    assert found.statistics.left_out == alone.statistics.left_out + 1  # T9999
    terms = {term.id: term.category for term in found.terms}
    assert (terms["report:1"], terms["CVE-2031-0001"]) == ("report", "vulnerability")
    assert is_cve("CVE-2031-0001")


def test_what_the_feeds_say_is_as_before_and_only_relations_of_reports_have_places(tmp_path: Path) -> None:
    write_ontology(world(), tmp_path / "alone")
    write_ontology(world(), tmp_path / "both", reports=[REPORT])
    files = [(tmp_path / name / FILE).read_bytes() for name in ("alone", "both")]
    alone, both = (msgspec.json.decode(data, type=ThreatOntology) for data in files)
    assert b'"spans"' not in files[0]
    assert set(both.relations) - set(alone.relations) == set(relations_of(both).values())
    assert set(alone.relations) <= set(both.relations)
    cypher = (tmp_path / "both" / "threat_ontology.cypher").read_text(encoding="utf-8")
    assert "MERGE (a)-[r:MENTIONS]->(b)" in cypher
