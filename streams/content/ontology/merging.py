"""An older ontology merged into a new one, by key: what the feeds say counts, and what only the older has is kept.

A term without an `id`, as older files have them, is known by the id of its technique, else by category and name.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from pathlib import Path

import msgspec

from schemas.errors import BadConfiguration
from streams.content.identity import technique_id_in
from streams.content.ontology.model import Relation, Term, ThreatOntology
from streams.content.ontology.terms import delta_angle, finished, platform_id, tactic_id, words_of
from streams.content.ontology.vocabulary import CATEGORIES, RELATION_TYPES
from streams.content.trivariate import semantic_part

log = logging.getLogger(__name__)

OTHER_CATEGORY = "domain"
"""Of a term with a category that is none of ours."""
OTHER_RELATION = "related_to"
"""Of a relation with a type that is none of ours."""

_SPACES = re.compile(r"\s+")


class OlderTerm(msgspec.Struct, frozen=True):
    """What is read of a term. Its numbers are computed again."""

    canonical_name: str
    category: str = OTHER_CATEGORY
    id: str = ""
    sch_id: str = ""
    aliases: tuple[str, ...] = ()
    definition: str = ""
    rfc_sources: tuple[str, ...] = ()


class OlderRelation(msgspec.Struct, frozen=True):
    """What is read of a relation."""

    source: str
    target: str
    relation_type: str = OTHER_RELATION
    weight: float = 1.0
    source_id: str = ""
    target_id: str = ""


class OlderOntology(msgspec.Struct, frozen=True):
    """Terms and relations of a file of any form."""

    terms: tuple[OlderTerm, ...]
    relations: tuple[OlderRelation, ...] = ()


def read_older(path: Path) -> OlderOntology:
    """Read a file to merge.

    Raises:
        BadConfiguration: It can't be read, or has no terms; the message says where.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=OlderOntology)
    except (OSError, msgspec.DecodeError) as error:
        raise BadConfiguration(
            f"{path} is not an ontology to merge: {error}; it needs `terms` with a `canonical_name` each: "
            "mend it, or move it away"
        ) from error


def merge(new: ThreatOntology, older: OlderOntology) -> ThreatOntology:
    """The two together.

    A term of both has the words and the category of the new one, and the aliases and sources of both. A relation of
    both has the larger weight. Relations with an end that neither has are left out and counted.

    Args:
        new: From events.
        older: From a file.
    """
    terms = {term.id: term for term in new.terms}
    names = {(term.category, _folded(term.canonical_name)): term.id for term in new.terms}
    ids: dict[str, str] = {}
    for each in older.terms:
        key = _key(each, terms, names)
        terms[key] = _merged(terms[key], each) if key in terms else _added(key, each)
        names.setdefault((each.category, _folded(each.canonical_name)), key)
        ids.setdefault(each.canonical_name, key)
        if each.id:
            ids[each.id] = key
    relations = {(r.source_id, r.relation_type, r.target_id): r for r in new.relations}
    left_out = 0
    for relation in older.relations:
        source, target = (ids.get(end, "") for end in _ends(relation))
        if source in terms and target in terms and source != target:
            found = _relation(relation, terms[source], terms[target])
            key_ = (source, found.relation_type, target)
            relations[key_] = max(relations.get(key_, found), found, key=lambda each: each.weight)
        else:
            left_out += 1
    _warn(older, left_out)
    statistics = msgspec.structs.replace(new.statistics, left_out=new.statistics.left_out + left_out)
    return finished(
        msgspec.structs.replace(
            new, statistics=statistics, terms=tuple(terms.values()), relations=tuple(relations.values())
        )
    )


def _key(term: OlderTerm, terms: dict[str, Term], names: dict[tuple[str, str], str]) -> str:
    if term.id in terms:
        return term.id
    if term.category == "technique" and (id_ := technique_id_in((term.id, *term.aliases, *term.rfc_sources))):
        return id_
    if term.category == "tactic":
        return tactic_id(term.canonical_name)
    if term.category == "platform":
        return platform_id(term.canonical_name)
    folded = _folded(term.canonical_name)
    return names.get((term.category, folded)) or term.id or f"{term.category}:{folded}"


def _folded(name: str) -> str:
    return _SPACES.sub(" ", name.strip().lower())


def _merged(new: Term, older: OlderTerm) -> Term:
    names = (*new.aliases, older.canonical_name, *older.aliases)
    return msgspec.structs.replace(
        new,
        aliases=tuple(name for name in dict.fromkeys(names) if name and name != new.canonical_name),
        definition=new.definition or older.definition,
        rfc_sources=tuple(dict.fromkeys((*new.rfc_sources, *older.rfc_sources))),
    )


def _added(key: str, older: OlderTerm) -> Term:
    content = f"{key}{older.canonical_name}{older.definition}"
    return Term(
        id=key,
        sch_id=older.sch_id or semantic_part(content, older.category),
        canonical_name=older.canonical_name,
        category=older.category if older.category in CATEGORIES else OTHER_CATEGORY,
        aliases=older.aliases,
        definition=older.definition,
        rfc_sources=older.rfc_sources,
    )


def _ends(relation: OlderRelation) -> tuple[str, str]:
    return relation.source_id or relation.source, relation.target_id or relation.target


def _relation(relation: OlderRelation, source: Term, target: Term) -> Relation:
    known = relation.relation_type in RELATION_TYPES
    words = (words_of(term.canonical_name, term.definition) for term in (source, target))
    return Relation(
        source=source.canonical_name,
        target=target.canonical_name,
        relation_type=relation.relation_type if known else OTHER_RELATION,
        weight=min(max(relation.weight, 0.0), 1.0),
        delta_angle=delta_angle(*words),
        source_id=source.id,
        target_id=target.id,
    )


def _warn(older: OlderOntology, left_out: int) -> None:
    """Say what of the older ontology is not as it was."""
    categories = Counter(term.category for term in older.terms if term.category not in CATEGORIES)
    types = Counter(r.relation_type for r in older.relations if r.relation_type not in RELATION_TYPES)
    for what, other, counts in (("category", OTHER_CATEGORY, categories), ("relation", OTHER_RELATION, types)):
        for name, number in sorted(counts.items()):
            log.warning("merged ontology: %d of the unknown %s %r became %r", number, what, name, other)
    if left_out:
        log.warning("merged ontology: %d relations are left out, because an end is not among the terms", left_out)
