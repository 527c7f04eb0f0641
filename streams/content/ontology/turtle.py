"""`threat_ontology.ttl`: the terms and relations as RDF, with SKOS for names and definitions.

    term:T1059 a sx9:Technique ; skos:prefLabel "PowerShell" ; sx9:belongs_to term:tactic%3Aexecution .

Lines are in order of their subjects, so the same ontology gives the same bytes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from urllib.parse import quote

from streams.content.ontology.model import Relation, Term, ThreatOntology

VOCABULARY = "https://w3id.org/sx9/ontology/"
TERMS = "https://w3id.org/sx9/term/"

_HEAD = f"""@prefix sx9: <{VOCABULARY}> .
@prefix skos: <http://www.w3.org/2004/02/skos/core#> .
@prefix dcterms: <http://purl.org/dc/terms/> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .

"""
_ESCAPED = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SPECIAL = re.compile(r'[\\"\x00-\x1f\x7f]')


def turtle_of(ontology: ThreatOntology) -> Iterator[str]:
    """The file in pieces: the prefixes, then each term with its relations.

    Args:
        ontology: Its terms and relations; nodes and edges are left out.
    """
    yield _HEAD
    relations: dict[str, list[Relation]] = defaultdict(list)
    for relation in ontology.relations:
        relations[relation.source_id].append(relation)
    for term in ontology.terms:
        yield " ;\n    ".join(_lines(term, relations[term.id])) + " .\n\n"


def term_iri(id_: str) -> str:
    """The IRI of a term.

    >>> term_iri("tactic:execution")
    'https://w3id.org/sx9/term/tactic%3Aexecution'
    """
    return TERMS + quote(id_, safe="")


def _lines(term: Term, relations: list[Relation]) -> Iterator[str]:
    yield f"<{term_iri(term.id)}> a skos:Concept, sx9:{term.category.capitalize()}"
    yield f"dcterms:identifier {_literal(term.id)}"
    yield f"skos:prefLabel {_literal(term.canonical_name)}"
    yield from (f"skos:altLabel {_literal(alias)}" for alias in term.aliases)
    if term.definition:
        yield f"skos:definition {_literal(term.definition)}"
    yield from (f"dcterms:source {_literal(source)}" for source in term.rfc_sources)
    yield f"sx9:sch_id {_literal(term.sch_id)}"
    yield f"sx9:frequency {term.frequency}"
    yield from (f"sx9:{each.relation_type} <{term_iri(each.target_id)}>" for each in relations)


def _literal(text: str) -> str:
    return '"' + _SPECIAL.sub(lambda match: _ESCAPED.get(match[0]) or f"\\u{ord(match[0]):04X}", text) + '"'
