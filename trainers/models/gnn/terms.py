"""The graph in an ontology of `terms` and `relations`, for a file without `nodes` and `edges`.

A technique is known by its id, which is its `id` or one of its aliases; other terms by `id`, else by name. Tactics
are the labels of techniques. Relations get the names of STIX, because those of the journal have them.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from schemas.ids import is_technique
from schemas.journal import Link, Node

_KINDS = {"actor": "group", "detection": "data-component"}
"""Category of a term -> kind of its node, where these differ."""
_RELATIONS = {"implements": "uses", "is_a": "subtechnique-of"}
"""Relation -> STIX relationship type, where these differ by more than `_` and `-`."""
_FROM_TECHNIQUE = {"detected_by": "detects", "mitigated_by": "mitigates"}
"""Relations that lead from a technique; the link leads the other way."""
_KINDS_WITH_NODES = frozenset(("technique", "group", "tool", "campaign", "mitigation", "data-component"))


class Term(msgspec.Struct):
    """What is read of a term."""

    canonical_name: str
    category: str
    id: str = ""
    aliases: tuple[str, ...] = ()
    rfc_sources: tuple[str, ...] = ()
    definition: str = ""


class Relation(msgspec.Struct):
    """What is read of a relation; the ends are names, and ids where there are any."""

    source: str
    target: str
    relation_type: str
    source_id: str = ""
    target_id: str = ""


class TermGraph(msgspec.Struct):
    """Nodes with their labels, and links; each once, in order."""

    nodes: tuple[tuple[Node, tuple[str, ...]], ...]
    links: tuple[Link, ...]


def graph_of_terms(terms: Iterable[Term], relations: Iterable[Relation]) -> TermGraph:
    """The graph of an ontology.

    Args:
        terms: Of all categories; only those that a journal has nodes of are read.
        relations: Those with an unknown end are left out.
    """
    nodes: dict[str, Node] = {}
    ids: dict[str, str] = {}
    tactics: dict[str, str] = {}
    for term in terms:
        id_, kind = _id(term), _KINDS.get(term.category, term.category)
        if term.category == "tactic":
            for name in (term.id, term.canonical_name):
                tactics.setdefault(name, _short_name(term.canonical_name))
        if kind in _KINDS_WITH_NODES:
            nodes[id_] = Node(id=id_, kind=kind, name=term.canonical_name, text=term.definition)
            for name in (term.id, id_, term.canonical_name, *term.aliases):
                ids.setdefault(name, id_)
    labels: dict[str, set[str]] = {}
    links: dict[Link, None] = {}
    for relation in relations:
        source = nodes.get(ids.get(relation.source_id or relation.source, ""))
        tactic = tactics.get(relation.target_id or relation.target)
        target = nodes.get(ids.get(relation.target_id or relation.target, ""))
        if source and tactic and relation.relation_type == "belongs_to":
            labels.setdefault(source.id, set()).add(tactic)
        elif source and target and source.id != target.id:
            links[_link(source, relation.relation_type, target)] = None
    return TermGraph(
        nodes=tuple((nodes[id_], tuple(sorted(labels.get(id_, ())))) for id_ in sorted(nodes)),
        links=tuple(links),
    )


def _id(term: Term) -> str:
    if term.category == "technique":
        for name in (term.id, *term.aliases, *term.rfc_sources):
            if is_technique(name):
                return name
    return term.id or term.canonical_name


def _short_name(name: str) -> str:
    return "-".join(name.lower().split())


def _link(source: Node, relation: str, target: Node) -> Link:
    if relation in _FROM_TECHNIQUE:
        source, target, relation = target, source, _FROM_TECHNIQUE[relation]
    return Link(
        source=source.id,
        source_kind=source.kind,
        relation=_RELATIONS.get(relation, relation.replace("_", "-")),
        target=target.id,
        target_kind=target.kind,
    )
