"""The embeddings of a version in Neo4j: a property of its own on every node, under a vector index of its own.

    1 the property `gnn_threat_v0003` of the nodes
    2 the index of that name, waited for
    3 the note that it serves
    4 indexes and properties of other versions go

Each step can be repeated. Until 3 questions go to the version before, whose index is still there; killed before 4,
the next write tidies up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, LiteralString, cast

import msgspec
from neo4j import Driver

from schemas.errors import BadConfiguration
from transport.neo4j import neo4j_errors

PREFIX = "gnn_threat_"
NODES = "nodes.json"
"""A version with this file has embeddings."""
AT_ONCE = 1_000
"""Nodes of one transaction."""
AWAIT_S = 120

_SET = """UNWIND $rows AS row
MERGE (n:Entity {id: row.id})
SET n.`%s` = row.vector"""
_INDEX = """CREATE VECTOR INDEX `%s` IF NOT EXISTS FOR (n:Entity) ON (n.`%s`)
OPTIONS {indexConfig: {`vector.dimensions`: %d, `vector.similarity_function`: 'cosine'}}"""
_SERVES = "MERGE (s:EmbeddingVersion {model: 'gnn-threat'}) SET s.name = $name"
_WHICH = "MATCH (s:EmbeddingVersion {model: 'gnn-threat'}) RETURN s.name AS name"
_INDEXES = "SHOW VECTOR INDEXES YIELD name, options WHERE name STARTS WITH $prefix RETURN name, options"
_PROPERTIES = """MATCH (n:Entity) UNWIND keys(n) AS key
WITH DISTINCT key WHERE key STARTS WITH $prefix RETURN key"""
_SIMILAR = """MATCH (a:Entity {id: $id})
CALL db.index.vector.queryNodes($name, $k, a[$name]) YIELD node, score
WHERE node.id <> $id
RETURN node.id AS id, node.kind AS kind, node.name AS name, labels(node) AS labels, score
ORDER BY score DESC, id"""


def property_of(version: str) -> str:
    """The name of a version's property and index.

    Raises:
        BadConfiguration: It is no name of a version.

    >>> property_of("v0003")
    'gnn_threat_v0003'
    """
    if not re.fullmatch(r"\w{1,40}", version, re.ASCII):
        raise BadConfiguration(f"version {version!r} is no name that an index can have: letters, digits and _ only")
    return PREFIX + version


def write_embeddings(
    driver: Driver, version: str, nodes: Sequence[str], vectors: Sequence[Sequence[float]]
) -> None:
    """Make a version's embeddings those that `similar` asks; see the module.

    Args:
        version: `v0003`, ...
        nodes: Ids; one that Neo4j doesn't have yet is made, and gets the rest from the stream.
        vectors: One per node, all of the same length.

    Raises:
        RetryLater: Neo4j does not answer.
        BadConfiguration: It refuses.
    """
    name = property_of(version)
    if len(nodes) != len(vectors) or not len(nodes):
        raise BadConfiguration(f"{len(nodes)} nodes and {len(vectors)} vectors: one each, and at least one")
    with neo4j_errors(f"writing the embeddings of {version}"):
        for start in range(0, len(nodes), AT_ONCE):  # 1
            some = zip(nodes[start : start + AT_ONCE], vectors[start : start + AT_ONCE], strict=True)
            rows = [{"id": node, "vector": [float(x) for x in vector]} for node, vector in some]
            driver.execute_query(_query(_SET % name), rows=rows)
        _drop_other_size(driver, name, len(vectors[0]))
        driver.execute_query(_query(_INDEX % (name, name, len(vectors[0]))))  # 2
        driver.execute_query("CALL db.awaitIndex($name, $seconds)", name=name, seconds=AWAIT_S)
        driver.execute_query(_SERVES, name=name)  # 3
        _tidy(driver, name)  # 4


def write_version(driver: Driver, version: str, folder: Path) -> None:
    """`write_embeddings` of a version's folder: what a promotion is followed by."""
    from safetensors.numpy import load_file

    nodes = [node["id"] for node in msgspec.json.decode((folder / NODES).read_bytes())]
    write_embeddings(driver, version, nodes, load_file(folder / "embeddings.safetensors")["embeddings"].tolist())


def similar(driver: Driver, node: str, k: int = 10) -> list[dict[str, Any]]:
    """The nodes that are most like one, by the embeddings that serve: id, kind, name and score (1: the same).

    Raises:
        RetryLater: Neo4j does not answer.
        BadConfiguration: There is no such node, or no embedding of it.
    """
    with neo4j_errors(f"looking for what is like {node}"):
        serving = driver.execute_query(_WHICH).records
        if not serving:
            raise BadConfiguration(
                "Neo4j has no embeddings yet: they come with the first version of gnn-threat (`sx9 models list -m "
                "gnn-threat`)"
            )
        name = serving[0]["name"]
        has = "MATCH (a:Entity {id: $id}) RETURN a[$name] IS NOT NULL AS has"
        found = driver.execute_query(has, id=node, name=name).records
        if not found or not found[0]["has"]:
            raise BadConfiguration(
                f"{node!r} has no embedding in {name}: ids are those of the graph, such as T1059.001"
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
    """An index of this name for vectors of another length, from another journal's version, goes."""
    for index in driver.execute_query(_INDEXES, prefix=name).records:
        if index["name"] == name and index["options"]["indexConfig"].get("vector.dimensions") != size:
            driver.execute_query(_query(f"DROP INDEX `{name}` IF EXISTS"))


def _tidy(driver: Driver, keep: str) -> None:
    for index in driver.execute_query(_INDEXES, prefix=PREFIX).records:
        if index["name"] != keep:
            driver.execute_query(_query(f"DROP INDEX `{index['name']}` IF EXISTS"))
    for found in driver.execute_query(_PROPERTIES, prefix=PREFIX).records:
        if (key := found["key"]) != keep:
            driver.execute_query(_query(f"MATCH (n:Entity) WHERE n.`{key}` IS NOT NULL REMOVE n.`{key}`"))


def _query(text: str) -> LiteralString:
    """Names in it are `property_of` a version, or names that begin with it and were made here."""
    return cast(LiteralString, text)
