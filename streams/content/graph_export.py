"""`threat_ontology.json`: the threat graph as one file, indented for reading.

{"nodes": [{"id", "kind", "name", "text", "tactics"?}],
 "edges": [{"id", "source", "source_kind", "relation", "target", "target_kind"}]}
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from schemas.errors import BadConfiguration
from streams.core.ontology import Ontology
from transport.files import write_atomically

FILE = "threat_ontology.json"


def write_ontology(path: Path, ontology: Ontology) -> None:
    """Write the file as a whole; equal ontologies give equal bytes.

    Args:
        path: Replaced if it exists; missing folders are created.
        ontology: The graph.
    """
    write_atomically(path, msgspec.json.format(msgspec.json.encode(ontology), indent=1) + b"\n")


def read_ontology(path: Path) -> Ontology:
    """Read the file.

    Raises:
        BadConfiguration: It can't be read, or has another structure; the message says where.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Ontology)
    except (OSError, msgspec.DecodeError) as error:
        raise BadConfiguration(
            f"{path} is not a threat ontology: {error}; write one with `sx9 export ontology`"
        ) from error
