"""Node embeddings in Neo4j. Each version has its own node property, with its own vector index.

    1 write the property of the nodes, such as `gnn_threat_v0003`
    2 create the index of the same name, and wait for it
    3 record that this version serves
    4 drop the indexes and properties of other versions

Each step can be repeated. Until step 3, queries use the previous version, whose index still exists. If the process
is killed before step 4, the next write drops what is left.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from schemas.errors import BadConfiguration
from trainers.store.registry import NODES
from transport.neo4j import EMBEDDING_PREFIX as PREFIX
from transport.neo4j import neo4j_errors

if TYPE_CHECKING:
    from neo4j import Driver

NODES_PER_TRANSACTION = 1_000
INDEX_TIMEOUT_S = 120
"""Longest wait until an index is online, seconds."""

_SET = """UNWIND $rows AS row
MERGE (n:Entity {id: row.id})
SET n.`%s` = row.vector"""
_INDEX = """CREATE VECTOR INDEX `%s` IF NOT EXISTS FOR (n:Entity) ON (n.`%s`)
OPTIONS {indexConfig: {`vector.dimensions`: %d, `vector.similarity_function`: 'cosine'}}"""
_SET_SERVING = "MERGE (s:EmbeddingVersion {model: 'gnn-threat'}) SET s.name = $name"
_GET_SERVING = "MATCH (s:EmbeddingVersion {model: 'gnn-threat'}) RETURN s.name AS name"
_INDEXES = "SHOW VECTOR INDEXES YIELD name, options WHERE name STARTS WITH $prefix RETURN name, options"
_PROPERTIES = """MATCH (n:Entity) UNWIND keys(n) AS key
WITH DISTINCT key WHERE key STARTS WITH $prefix RETURN key"""
_SIMILAR = """MATCH (a:Entity {id: $id})
CALL db.index.vector.queryNodes($name, $k, a[$name]) YIELD node, score
WHERE node.id <> $id
RETURN node.id AS id, node.kind AS kind, node.name AS name, labels(node) AS labels, score
ORDER BY score DESC, id"""


def property_of(version: str) -> str:
    """The name of the property and the index of a version.

    Raises:
        BadConfiguration: The version cannot be part of such a name.

    >>> property_of("v0003")
    'gnn_threat_v0003'
    """
    if not re.fullmatch(r"\w{1,40}", version, re.ASCII):
        raise BadConfiguration(
            f"version {version!r} cannot be part of the name of an index: use letters, digits and _ only"
        )
    return PREFIX + version


def write_embeddings(
    driver: Driver, version: str, nodes: Sequence[str], vectors: Sequence[Sequence[float]]
) -> None:
    """Write the embeddings of a version and make `similar` use them; see the module.

    Args:
        driver: Of the Neo4j.
        version: `v0003`, ...
        nodes: Ids. A node that Neo4j does not have yet is created; the stream adds its other properties.
        vectors: One per node, all of the same length.

    Raises:
        RetryLater: Neo4j does not answer.
        BadConfiguration: There are no nodes, the number of vectors differs, or Neo4j refuses a query.
    """
    name = property_of(version)
    if len(nodes) != len(vectors) or not len(nodes):
        raise BadConfiguration(
            f"{len(nodes)} nodes and {len(vectors)} vectors: each node needs one, and there must be a node"
        )
    with neo4j_errors(f"writing the embeddings of {version}"):
        for start in range(0, len(nodes), NODES_PER_TRANSACTION):  # 1
            batch = zip(
                nodes[start : start + NODES_PER_TRANSACTION],
                vectors[start : start + NODES_PER_TRANSACTION],
                strict=True,
            )
            rows = [{"id": node, "vector": [float(x) for x in vector]} for node, vector in batch]
            driver.execute_query(_SET % name, rows=rows)
        _drop_other_size(driver, name, len(vectors[0]))
        driver.execute_query(_INDEX % (name, name, len(vectors[0])))  # 2
        driver.execute_query("CALL db.awaitIndex($name, $seconds)", name=name, seconds=INDEX_TIMEOUT_S)
        driver.execute_query(_SET_SERVING, name=name)  # 3
        _drop_other_versions(driver, name)  # 4


def write_version_embeddings(driver: Driver, version: str, folder: Path) -> None:
    """Write the embeddings in the folder of a version; see `write_embeddings`."""
    from safetensors.numpy import load_file

    nodes = [node["id"] for node in msgspec.json.decode((folder / NODES).read_bytes())]
    write_embeddings(driver, version, nodes, load_file(folder / "embeddings.safetensors")["embeddings"].tolist())


def serving_version(driver: Driver) -> str | None:
    """The version whose embeddings `similar` uses; None before the first.

    Raises:
        RetryLater: Neo4j does not answer.
    """
    with neo4j_errors("asking for the embeddings that serve"):
        found = driver.execute_query(_GET_SERVING).records
    return str(found[0]["name"]).removeprefix(PREFIX) if found else None


def similar(driver: Driver, node: str, k: int = 10) -> list[dict[str, Any]]:
    """The nearest neighbours of a node by cosine similarity, with the embeddings of the version that serves.

    Args:
        driver: Of the Neo4j.
        node: Its id.
        k: The number of neighbours, at least 1.

    Returns:
        At most `k` nodes, nearest first: `id`, `kind`, `name`, and `score`, 0 to 1 (1: the same direction).

    Raises:
        RetryLater: Neo4j does not answer.
        BadConfiguration: There are no embeddings yet, or the node does not exist or has none.
    """
    with neo4j_errors(f"searching the neighbours of {node}"):
        serving = driver.execute_query(_GET_SERVING).records
        if not serving:
            raise BadConfiguration(
                "Neo4j has no embeddings yet: the first version of gnn-threat writes them (`sx9 models list -m "
                "gnn-threat`)"
            )
        name = serving[0]["name"]
        has = "MATCH (a:Entity {id: $id}) RETURN a[$name] IS NOT NULL AS has"
        found = driver.execute_query(has, id=node, name=name).records
        if not found or not found[0]["has"]:
            raise BadConfiguration(
                f"{node!r} has no embedding in {name}: use the id of a node of the graph, such as T1059.001"
            )
        rows = driver.execute_query(_SIMILAR, id=node, name=name, k=k + 1).records
    return [
        {
            "id": row["id"],
            "kind": row["kind"] or _kind(row["labels"]),
            "name": row["name"] or "",
            "score": row["score"],
        }
        for row in rows
    ][:k]


def _kind(labels: Sequence[str]) -> str:
    return ", ".join(sorted(set(labels) - {"Entity"}))


def _drop_other_size(driver: Driver, name: str, size: int) -> None:
    """Drop an index of this name for vectors of another length, which a version of another journal left."""
    for index in driver.execute_query(_INDEXES, prefix=name).records:
        if index["name"] == name and index["options"]["indexConfig"].get("vector.dimensions") != size:
            driver.execute_query(f"DROP INDEX `{name}` IF EXISTS")


def _drop_other_versions(driver: Driver, keep: str) -> None:
    for index in driver.execute_query(_INDEXES, prefix=PREFIX).records:
        if index["name"] != keep:
            driver.execute_query(f"DROP INDEX `{index['name']}` IF EXISTS")
    for found in driver.execute_query(_PROPERTIES, prefix=PREFIX).records:
        if (key := found["key"]) != keep:
            driver.execute_query(f"MATCH (n:Entity) WHERE n.`{key}` IS NOT NULL REMOVE n.`{key}`")
