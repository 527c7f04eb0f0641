"""`write_ontology`: every file of the ontology, in one folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from schemas.events import Event
from streams.content.current import current
from streams.content.ontology import linkml
from streams.content.ontology.cypher import cypher_of
from streams.content.ontology.merging import merge, read_older
from streams.content.ontology.model import Statistics, ThreatOntology
from streams.content.ontology.reports import ExtractedReport, add_reports, valid_reports
from streams.content.ontology.surrealql import surrealql_of
from streams.content.ontology.terms import build_terms
from streams.content.ontology.turtle import turtle_of
from streams.core.ontology import build_ontology
from transport.files import write_atomically

FILE = "threat_ontology.json"
CYPHER_FILE = "threat_ontology.cypher"
SURREALQL_FILE = "threat_ontology.surql"
TURTLE_FILE = "threat_ontology.ttl"
LINKML_FILE = "threat_ontology.linkml.yaml"
TEMPLATES_FOLDER = "linkml_templates"
OLDER_FILE = "ontology_raw.json"
STATISTICS_FILE = "threat_ontology_stats.json"


class OntologySummary(msgspec.Struct, frozen=True, kw_only=True):
    """What was written.

    Attributes:
        output: The folder.
        files: Names of the files in it.
        terms, relations, nodes, edges: Numbers.
        left_out: Relations whose other end no feed describes.
    """

    output: str
    files: tuple[str, ...]
    terms: int
    relations: int
    nodes: int
    edges: int
    left_out: int


def write_ontology(
    events: Iterable[Event],
    folder: Path,
    older: Path | None = None,
    reports: Iterable[ExtractedReport] = (),
) -> OntologySummary:
    """Write every file of the ontology. The same events give the same bytes.

    Args:
        events: In order; a later event with the same id replaces the earlier.
        folder: Created if missing; files in it are replaced as a whole.
        older: An ontology whose terms and relations are merged in, by key; `ontology_raw.json` of the folder, if
            there is one. The Cypher file has nothing of it.
        reports: What reports in free text say.

    Raises:
        BadConfiguration: The older ontology can't be read.
    """
    read = list(events)
    content = current(read)
    extracted = tuple(valid_reports(reports, content))
    ontology = build_terms(content)
    if extracted:
        ontology = add_reports(ontology, extracted)
    older = older or folder / OLDER_FILE
    if older.exists() or older.name != OLDER_FILE:
        ontology = merge(ontology, read_older(older))
    graph = build_ontology(read)
    ontology = msgspec.structs.replace(ontology, nodes=graph.nodes, edges=graph.edges)
    definitions = {term.id: term.definition for term in ontology.terms}
    files = {
        FILE: _json(ontology),
        STATISTICS_FILE: _json(ontology.statistics),
        CYPHER_FILE: "".join(cypher_of(content, definitions, extracted)).encode(),
        SURREALQL_FILE: "".join(surrealql_of(ontology)).encode(),
        TURTLE_FILE: "".join(turtle_of(ontology)).encode(),
        LINKML_FILE: linkml.schema().encode(),
    } | {f"{TEMPLATES_FOLDER}/{name}": data for name, data in linkml.templates()}
    for name, data in files.items():
        write_atomically(folder / name, data)
    return OntologySummary(
        output=str(folder),
        files=tuple(sorted(files)),
        terms=len(ontology.terms),
        relations=len(ontology.relations),
        nodes=len(graph.nodes),
        edges=len(graph.edges),
        left_out=ontology.statistics.left_out,
    )


def _json(document: ThreatOntology | Statistics) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"
