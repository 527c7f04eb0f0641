"""What reports in free text say, as terms and relations: each statement with its sentence and a confidence.

    ExtractedReport ──add_reports──> a term of the report, and `mentions` to techniques, tactics and CVEs

Who extracts is not known here: `sx9_ml_models/content/reports.py` has our own classifier.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from schemas.ids import is_cve
from streams.content.current import Current
from streams.content.ontology.model import Relation, SourceSpan, Term, ThreatOntology
from streams.content.ontology.terms import delta_angle, finished, named_term, words_of
from streams.content.trivariate import semantic_part

MENTIONS = "mentions"
CATEGORY = "report"


class Statement(msgspec.Struct, frozen=True):
    """A report mentions something.

    Attributes:
        target: The key of its term: the id of a technique, a CVE, `tactic:execution`.
        span: Where, and how sure it is.
    """

    target: str
    span: SourceSpan


class ExtractedReport(msgspec.Struct, frozen=True):
    """A report.

    Attributes:
        id: Its key: `report:` and a digest of its text, so that the same text is the same report.
        name: Name of its file.
        statements: In order of their places.
    """

    id: str
    name: str
    statements: tuple[Statement, ...]


def valid_reports(reports: Iterable[ExtractedReport], content: Current) -> Iterator[ExtractedReport]:
    """The reports with the successors of revoked ids in their statements; of two with one id the first."""
    for report in {each.id: each for each in reversed(list(reports))}.values():
        statements = (
            msgspec.structs.replace(each, target=content.valid_id(each.target)) for each in report.statements
        )
        yield msgspec.structs.replace(report, statements=tuple(statements))


def add_reports(ontology: ThreatOntology, reports: Sequence[ExtractedReport]) -> ThreatOntology:
    """The ontology with what reports mention.

    A CVE gets a term if it has none. Other things that no feed describes are left out and counted.

    Args:
        ontology: Of the feeds.
        reports: From `valid_reports`.
    """
    terms = {term.id: term for term in ontology.terms}
    left_out = ontology.statistics.left_out
    relations: list[Relation] = []
    for report in reports:
        terms[report.id] = _term(report)
        for target, spans in mentions(report).items():
            if target not in terms and is_cve(target):
                terms[target] = named_term(target, target, "vulnerability")
            if target in terms:
                relations.append(_relation(terms[report.id], terms[target], spans))
            else:
                left_out += 1
    statistics = msgspec.structs.replace(ontology.statistics, left_out=left_out)
    return finished(
        msgspec.structs.replace(
            ontology,
            statistics=statistics,
            terms=tuple(terms.values()),
            relations=(*ontology.relations, *relations),
        )
    )


def mentions(report: ExtractedReport) -> dict[str, tuple[SourceSpan, ...]]:
    """Key of a term -> the places where a report mentions it."""
    found: dict[str, tuple[SourceSpan, ...]] = {}
    for statement in report.statements:
        found[statement.target] = (*found.get(statement.target, ()), statement.span)
    return found


def _term(report: ExtractedReport) -> Term:
    return Term(
        id=report.id,
        sch_id=semantic_part(report.id, CATEGORY),
        canonical_name=report.name,
        category=CATEGORY,
        rfc_sources=(report.name,),
    )


def _relation(source: Term, target: Term, spans: tuple[SourceSpan, ...]) -> Relation:
    words = (words_of(each.canonical_name, each.definition) for each in (source, target))
    return Relation(
        source=source.canonical_name,
        target=target.canonical_name,
        relation_type=MENTIONS,
        weight=max(span.confidence for span in spans),
        delta_angle=delta_angle(*words),
        source_id=source.id,
        target_id=target.id,
        spans=spans,
    )
