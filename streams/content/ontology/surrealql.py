"""`threat_ontology.surql`: statements for SurrealDB, with a table of terms and one of relations.

Every record has its key as its id, so loading the file twice changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from streams.content.ontology.model import ThreatOntology

NAMESPACE = "ctas7"
DATABASE = "threat_ontology"

_ESCAPES = str.maketrans({"\\": "\\\\", "`": "\\`", "\n": "\\n", "\r": "\\r"})
"""In an identifier between backticks."""


def surrealql_of(ontology: ThreatOntology) -> Iterator[str]:
    """The statements, each with its semicolon and a line end.

    Args:
        ontology: Its terms and relations; nodes and edges are left out.
    """
    yield f"DEFINE NAMESPACE IF NOT EXISTS {NAMESPACE};\nUSE NS {NAMESPACE};\n"
    yield f"DEFINE DATABASE IF NOT EXISTS {DATABASE};\nUSE DB {DATABASE};\n"
    yield "DEFINE TABLE IF NOT EXISTS term SCHEMALESS;\nDEFINE TABLE IF NOT EXISTS relation SCHEMALESS;\n"
    yield "DEFINE INDEX IF NOT EXISTS term_name ON term FIELDS canonical_name;\n"
    yield "DEFINE INDEX IF NOT EXISTS relation_source ON relation FIELDS source_id;\n"
    yield "DEFINE INDEX IF NOT EXISTS relation_target ON relation FIELDS target_id;\n"
    for term in ontology.terms:
        yield _upsert("term", term.id, msgspec.to_builtins(term))
    for each in ontology.relations:
        key = f"{each.source_id}>{each.relation_type}>{each.target_id}"
        yield _upsert("relation", key, msgspec.to_builtins(each))


def _upsert(table: str, key: str, record: dict[str, Any]) -> str:
    """The statement of a record; a field `id` becomes the id of the record of SurrealDB."""
    properties = {name: _storable(value) for name, value in record.items() if name != "id"}
    content = json.dumps(properties, ensure_ascii=False)
    return f"UPSERT {table}:`{key.translate(_ESCAPES)}` CONTENT {content};\n"


def _storable(value: Any) -> Any:
    """A value with U+FFFD in place of each NUL, which SurrealDB refuses in a string."""
    if isinstance(value, list | tuple):
        return [_storable(each) for each in value]
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value
