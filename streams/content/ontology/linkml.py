"""`threat_ontology.linkml.yaml`: the LinkML schema of the JSON; and the five templates for OntoGPT."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from streams.content.ontology.vocabulary import CATEGORIES, RELATION_TYPES

TEMPLATES = Path(__file__).with_name("linkml_templates")
"""Folder of the templates."""

Slot = dict[str, Any]

_LIST: Slot = {"multivalued": True, "inlined_as_list": True}
_MANY: Slot = {"multivalued": True}
_REQUIRED: Slot = {"required": True}
_INTEGER: Slot = {"range": "integer"}
_NUMBER: Slot = {"range": "double", "minimum_value": 0, "maximum_value": 1}
_COUNTS: Slot = {"range": "Count", "multivalued": True, "inlined": True}

CLASSES: dict[str, tuple[str, dict[str, Slot]]] = {
    "ThreatOntology": (
        "The document. Terms and relations are for people, nodes and edges are the graph of the model.",
        {
            "metadata": {"range": "Metadata", "inlined": True} | _REQUIRED,
            "statistics": {"range": "Statistics", "inlined": True} | _REQUIRED,
            "terms": {"range": "Term"} | _LIST,
            "relations": {"range": "Relation"} | _LIST,
            "nodes": {"range": "Node"} | _LIST,
            "edges": {"range": "Edge"} | _LIST,
        },
    ),
    "Metadata": ("Where an ontology is from.", {"extracted_at": {}, "source": _MANY, "version": _REQUIRED}),
    "Statistics": (
        "Counts of an ontology.",
        {
            "total_terms": _INTEGER,
            "total_relations": _INTEGER,
            "categories": _COUNTS,
            "relation_types": _COUNTS,
            "top_terms": {"range": "TopTerm"} | _LIST,
            "left_out": _INTEGER,
        },
    ),
    "Count": ("A number of something.", {"name": {"key": True} | _REQUIRED, "count": _INTEGER | _REQUIRED}),
    "TopTerm": (
        "A term with many relations.",
        {"name": _REQUIRED, "id": {"range": "Term"} | _REQUIRED, "frequency": _INTEGER | _REQUIRED},
    ),
    "Term": (
        "A thing.",
        {
            "id": {"identifier": True} | _REQUIRED,
            "sch_id": _REQUIRED,
            "canonical_name": _REQUIRED,
            "category": {"range": "Category"} | _REQUIRED,
            "aliases": _MANY,
            "definition": {},
            "rfc_sources": _MANY,
            "frequency": _INTEGER,
            "delta_angle": _NUMBER,
            "related_terms": _MANY,
        },
    ),
    "Relation": (
        "A statement about two terms.",
        {
            "source": _REQUIRED,
            "target": _REQUIRED,
            "relation_type": {"range": "RelationType"} | _REQUIRED,
            "weight": _NUMBER,
            "delta_angle": _NUMBER,
            "source_id": {"range": "Term"} | _REQUIRED,
            "target_id": {"range": "Term"} | _REQUIRED,
            "spans": {"range": "SourceSpan"} | _LIST,
        },
    ),
    "SourceSpan": (
        "The place of a statement in a report: characters from start to before end.",
        {
            "start": _INTEGER | _REQUIRED,
            "end": _INTEGER | _REQUIRED,
            "text": _REQUIRED,
            "confidence": _NUMBER | _REQUIRED,
            "by": _REQUIRED,
        },
    ),
    "Node": (
        "A node of the graph of the model.",
        {
            "id": {"identifier": True} | _REQUIRED,
            "kind": _REQUIRED,
            "name": {},
            "text": {},
            "tactics": _MANY,
        },
    ),
    "Edge": (
        "An edge of the graph of the model. Its ends need not have a node of their own.",
        {
            "id": {"identifier": True} | _REQUIRED,
            "source": _REQUIRED,
            "source_kind": _REQUIRED,
            "relation": _REQUIRED,
            "target": _REQUIRED,
            "target_kind": _REQUIRED,
        },
    ),
}
"""Class -> its description and its slots; a slot without a range is a string."""


def schema() -> str:
    """The schema, as YAML."""
    document = {
        "id": "https://w3id.org/sx9/threat_ontology",
        "name": "threat_ontology",
        "title": "ThreatOntology",
        "description": "The terms and relations of threat content, and the graph made of them.",
        "license": "Apache-2.0",
        "prefixes": {"linkml": "https://w3id.org/linkml/", "sx9": "https://w3id.org/sx9/ontology/"},
        "default_prefix": "sx9",
        "default_range": "string",
        "imports": ["linkml:types"],
        "classes": {name: _class(name, *parts) for name, parts in CLASSES.items()},
        "enums": {
            "Category": _enum("What a term is.", CATEGORIES),
            "RelationType": _enum("How two terms are related.", RELATION_TYPES),
        },
    }
    return yaml.safe_dump(document, sort_keys=False, width=120)


def templates() -> Iterator[tuple[str, bytes]]:
    """Name and content of each template."""
    for path in sorted(TEMPLATES.glob("*.yaml")):
        yield path.name, path.read_bytes()


def _class(name: str, description: str, slots: dict[str, Slot]) -> dict[str, Any]:
    root = {"tree_root": True} if name == "ThreatOntology" else {}
    return {"description": description} | root | {"attributes": {slot: dict(of) for slot, of in slots.items()}}


def _enum(description: str, values: Iterable[str]) -> dict[str, Any]:
    return {"description": description, "permissible_values": {value: {} for value in values}}
