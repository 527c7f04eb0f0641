"""Evidence from Neo4j: the subject of a question, and the neighbourhood of a node."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from schemas.errors import BadConfiguration
from schemas.grounding import ids
from serving.answers.evidence import Evidence, Fact, Role
from streams.core.projections.text import clean_text
from trainers.store import node_embeddings
from transport.neo4j import neo4j_errors

if TYPE_CHECKING:
    from neo4j import Driver

MAX_NEIGHBOURS = 12
"""Neighbours of one kind of edge and node that are read."""
MAX_NAME_WORDS = 7
"""Longest name that is looked for in a question, in words."""

_NOT_NAMES = frozenset(
    (
        "about",
        "after",
        "against",
        "also",
        "and",
        "any",
        "are",
        "attack",
        "block",
        "can",
        "data",
        "detect",
        "detection",
        "detects",
        "does",
        "explain",
        "find",
        "for",
        "from",
        "hunt",
        "how",
        "mitigate",
        "mitigates",
        "mitigation",
        "most",
        "prevent",
        "protect",
        "rule",
        "rules",
        "stop",
        "technique",
        "techniques",
        "tell",
        "that",
        "the",
        "them",
        "they",
        "this",
        "threat",
        "tool",
        "tools",
        "use",
        "used",
        "users",
        "uses",
        "using",
        "what",
        "when",
        "where",
        "which",
        "who",
        "why",
        "with",
        "work",
        "works",
    )
)
_BY_ID = """MATCH (n:Entity) WHERE n.id IN $ids OR n.external_id IN $ids
RETURN n.id AS id, coalesce(n.status, 'active') AS status, coalesce(n.external_id, n.id) AS called"""
_BY_NAME = """MATCH (n:Entity)
WHERE (n:Technique OR n:Group OR n:Malware OR n:Tool OR n:Campaign OR n:Vulnerability)
  AND (toLower(n.name) IN $names OR any(alias IN coalesce(n.aliases, []) WHERE toLower(alias) IN $names))
RETURN n.id AS id, n.name AS name, coalesce(n.aliases, []) AS aliases, n:Technique AS technique,
  coalesce(n.status, 'active') AS status"""
_NODE = "MATCH (n:Entity {id: $id}) RETURN n {.*} AS node, labels(n) AS labels"
_NEIGHBOURS = """MATCH (s:Entity {id: $id})-[r]-(o:Entity)
WHERE coalesce(r.status, 'active') = 'active' AND coalesce(o.status, 'active') = 'active' AND o.name IS NOT NULL
WITH type(r) AS relation, startNode(r) = s AS outgoing, r, o,
  [label IN labels(o) WHERE label <> 'Entity'][0] AS kind
ORDER BY coalesce(o.external_id, o.id), elementId(r)
WITH relation, outgoing, kind, count(DISTINCT o) AS total, collect({
  id: o.id, called: coalesce(o.external_id, o.id), name: o.name, text: r.text, own: o.text, tactics: o.tactics,
  feed: coalesce(r.feed, o.feed), release: coalesce(r.release, o.release), edge: r.id})[..$limit] AS shown
RETURN relation, outgoing, kind, total, shown ORDER BY relation, kind"""


def find_subject(driver: Driver, question: str) -> str | None:
    """The node that a question is about: by an id in it, else by the longest name of a node in it.

    Args:
        driver: Of the Neo4j.
        question: In plain words; any case.

    Returns:
        The id of the node in the graph; None if the question names none that is known.

    Raises:
        RetryLater: Neo4j does not answer.
    """
    with neo4j_errors("looking for what the question is about"):
        named = ids(question)
        if named:
            rows = driver.execute_query(_BY_ID, ids=named).records
            best = min(rows, key=lambda row: (named.index(row["called"]), row["status"] != "active"), default=None)
            return best["id"] if best else None
        names = _phrases(question)
        if not names:
            return None
        rows = driver.execute_query(_BY_NAME, names=names).records

    def rank(row: Any) -> tuple[bool, int, bool, str]:
        matched = [n for n in (row["name"], *row["aliases"]) if n.lower() in names]
        return row["status"] != "active", -max(map(len, matched)), not row["technique"], row["id"]

    return min(rows, key=rank)["id"] if rows else None


def find_node(driver: Driver, name: str) -> str | None:
    """The node that has an id, else the one that `find_subject` finds.

    Args:
        driver: Of the Neo4j.
        name: An id as the graph or ATT&CK has it, such as `T1055` or `sigma:1`; or a name or alias.

    Raises:
        RetryLater: Neo4j does not answer.
    """
    wanted = name.strip()
    with neo4j_errors(f"looking for {wanted}"):
        rows = driver.execute_query(_BY_ID, ids=[wanted, wanted.upper()]).records
    if rows:
        best = min(rows, key=lambda row: (row["status"] != "active", row["id"] != wanted, row["id"]))
        return str(best["id"])
    return find_subject(driver, wanted)


def fetch_evidence(driver: Driver, node: str, limit: int = MAX_NEIGHBOURS) -> Evidence:
    """What the graph knows of a node.

    Args:
        driver: Of the Neo4j.
        node: Its id, as `find_subject` returns it.
        limit: Neighbours of one kind of edge and node, at least 1.

    Raises:
        RetryLater: Neo4j does not answer.
        BadConfiguration: There is no such node.
    """
    with neo4j_errors(f"reading what is known of {node}"):
        found = driver.execute_query(_NODE, id=node).records
        rows = driver.execute_query(_NEIGHBOURS, id=node, limit=limit).records
    if not found or not found[0]["node"].get("name"):
        raise BadConfiguration(
            f"the graph does not know {node!r}: use an id such as T1055, G0016 or CVE-2021-44228"
        )
    properties = found[0]["node"]
    kind = next((label for label in found[0]["labels"] if label != "Entity"), "Unknown")
    facts: list[Fact] = []
    totals: dict[str, int] = {}
    for row in rows:
        role = _role(row["relation"], row["outgoing"], row["kind"] or "", kind)
        totals[role] = totals.get(role, 0) + row["total"]
        facts += [_fact(role, row["kind"] or "Unknown", each) for each in row["shown"]]
    return Evidence(
        id=properties.get("external_id") or node,
        name=properties["name"],
        kind=kind,
        source=_source(properties.get("feed"), properties.get("release"), node),
        text=clean_text(properties.get("text") or ""),
        tactics=tuple(properties.get("tactics") or ()),
        aliases=tuple(properties.get("aliases") or ()),
        platforms=tuple(properties.get("platforms") or ()),
        severity=properties.get("severity") or "",
        status=properties.get("status") or "active",
        revoked_by=properties.get("revoked_by") or "",
        facts=tuple(facts),
        totals=totals,
        similar=_similar(driver, node),
    )


def _similar(driver: Driver, node: str) -> tuple[Fact, ...]:
    """The nearest nodes; none where there are no embeddings yet, or none of this node."""
    try:
        version = node_embeddings.serving_version(driver)
        rows = node_embeddings.similar(driver, node, 5) if version else []
    except BadConfiguration:
        return ()
    return tuple(
        Fact(role="other", id=r["id"], name=r["name"], kind=r["kind"], source=f"gnn-threat {version}: {r['id']}")
        for r in rows
    )


_OUTGOING: dict[str, Role] = {"MITIGATES": "technique", "DETECTS": "technique", "SUBTECHNIQUE_OF": "parent"}
_INCOMING: dict[str, Role] = {
    "MITIGATES": "mitigation",
    "DETECTS": "detection",
    "USES": "user",
    "MENTIONS": "report",
}
"""Type of an edge from the subject, or to it -> what is at its other end."""


def _role(relation: str, outgoing: bool, kind: str, subject: str) -> Role:
    by_type = (_OUTGOING if outgoing else _INCOMING).get(relation)
    if by_type:
        return by_type
    if relation == "REFERENCES" and not outgoing:
        return "rule" if kind == "Template" else "other"
    return "technique" if kind == "Technique" and subject != "Technique" else "other"


def _fact(role: Role, kind: str, row: dict[str, Any]) -> Fact:
    return Fact(
        role=role,
        id=row["called"],
        name=row["name"],
        kind=kind,
        text=clean_text(row["text"] or row["own"] or ""),
        tactics=tuple(row["tactics"] or ()),
        source=_source(row["feed"], row["release"], row["edge"] or row["id"]),
    )


def _source(feed: str | None, release: str | None, name: str) -> str:
    return f"{' '.join(filter(None, (feed, release))) or 'graph'}: {name}"


def _phrases(question: str) -> list[str]:
    """The runs of words of a question that may be a name, in lower case."""
    words = re.findall(r"[\w.&/+#:'’-]+", question.lower())
    words = [word.strip(".:'’") for word in words]
    runs = (
        words[start : start + length]
        for length in range(1, MAX_NAME_WORDS + 1)
        for start in range(len(words) - length + 1)
    )
    return sorted({" ".join(run) for run in runs if _may_be_a_name(run)})


def _may_be_a_name(words: Iterable[str]) -> bool:
    words = list(words)
    return len(words) > 1 or (len(words[0]) >= 3 and words[0] not in _NOT_NAMES)
