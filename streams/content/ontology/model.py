"""The document `threat_ontology.json`: metadata, statistics, terms and relations, and beside them nodes and edges.

Terms and relations are for people and for other tools; nodes and edges are the graph that `gnn-threat` learns from.
"""

from __future__ import annotations

import msgspec

from streams.core.ontology import OntologyEdge, OntologyNode

VERSION = "1.1"
"""Of the form of the document; 1.0 has no ids and no nodes and edges."""


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """A thing.

    Attributes:
        id: Its key; also the id of its node, if it has one.
        sch_id: Hash of what it says (RFC-9001); the same as that of its DSL entity.
        canonical_name: Its name. Two things may have the same.
        category: One of `vocabulary.CATEGORIES`.
        aliases: Other names; of a technique also its id.
        definition: Its description, without markup.
        rfc_sources: The feeds that say so, and ids there.
        frequency: Number of relations that it has an end of, plus 1.
        delta_angle: Mean of its relations' delta angles; 0 without any.
        related_terms: Names of the things that it is most often related to.
    """

    id: str = ""
    sch_id: str
    canonical_name: str
    category: str
    aliases: tuple[str, ...] = ()
    definition: str = ""
    rfc_sources: tuple[str, ...] = ()
    frequency: int = 0
    delta_angle: float = 0.0
    related_terms: tuple[str, ...] = ()


class SourceSpan(msgspec.Struct, frozen=True):
    """The place of a statement in a report.

    Attributes:
        start, end: Characters of the report's text, half open.
        text: What is there: a sentence.
        confidence: How sure the statement is, 0 to 1: 1 if the text has the id itself, otherwise the share of such
            statements that are right where that was measured, or a calibrated probability.
        by: Who says so: `stated`, `nearest examples`, a model and its version.
    """

    start: int
    end: int
    text: str
    confidence: float
    by: str


class Relation(msgspec.Struct, frozen=True, kw_only=True):
    """A statement about two terms.

    Attributes:
        source, target: Names of the two.
        source_id, target_id: Their keys.
        relation_type: One of `vocabulary.RELATION_TYPES`.
        weight: How sure it is: 1 where a feed states it, the highest confidence of the places where a report does.
        delta_angle: 1 minus the Jaccard index of the words of the two: 0 for the same words, 1 for no common one.
        spans: Of a report: where it says so. Other relations have no such field.
    """

    source: str
    target: str
    relation_type: str
    weight: float = 1.0
    delta_angle: float = 0.0
    source_id: str = ""
    target_id: str = ""
    spans: tuple[SourceSpan, ...] | msgspec.UnsetType = msgspec.UNSET


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """Where an ontology is from.

    Attributes:
        extracted_at: The newest modification that a feed states, ISO 8601: the same content gives the same file.
        source: `feed@release` of every feed.
        version: Of the form of the document.
    """

    extracted_at: str = ""
    source: str | tuple[str, ...] = ()
    version: str = VERSION


class TopTerm(msgspec.Struct, frozen=True, kw_only=True):
    """A term with many relations."""

    name: str
    id: str
    frequency: int


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of an ontology.

    Attributes:
        categories, relation_types: Name -> number.
        top_terms: Those with the most relations.
        left_out: Relations whose other end no feed describes.
    """

    total_terms: int = 0
    total_relations: int = 0
    categories: dict[str, int] = {}
    relation_types: dict[str, int] = {}
    top_terms: tuple[TopTerm, ...] = ()
    left_out: int = 0


class ThreatOntology(msgspec.Struct, frozen=True, kw_only=True):
    """The document. Terms, nodes and edges are sorted by id, relations by their ends."""

    metadata: Metadata = Metadata()
    statistics: Statistics = Statistics()
    terms: tuple[Term, ...] = ()
    relations: tuple[Relation, ...] = ()
    nodes: tuple[OntologyNode, ...] = ()
    edges: tuple[OntologyEdge, ...] = ()
