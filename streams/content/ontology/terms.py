"""From valid events to terms and relations. No language model: a structured feed says what it means.

techniques, templates, entities ──> terms; so are tactics, platforms and CVEs that they name
relationships, and what events name ──> relations between terms, each once
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

import msgspec

from schemas.events import Entity, Technique, Template
from schemas.text import meaningful
from streams.content.current import Current, all_events, iso_time, public_id, tactic_name, tactic_short_name
from streams.content.identity import hash_kind, hashed_content
from streams.content.ontology.model import Metadata, Relation, Statistics, Term, ThreatOntology, TopTerm
from streams.content.ontology.vocabulary import RELATION_OF_STIX, category_of, relation_to_technique
from streams.content.trivariate import semantic_part
from streams.core.projections.text import clean_text

MAX_RELATED_TERMS = 10
"""Names in `Term.related_terms`."""
MAX_TOP_TERMS = 20
"""Terms in `Statistics.top_terms`."""

TACTIC_KEY = "tactic:"
"""What the key of a tactic begins with."""
_WORD = re.compile(r"[a-z0-9]{2,}")

Statement = tuple[str, str, str]
"""Id of the source, relation, id of the target."""


def build_terms(content: Current) -> ThreatOntology:
    """The terms and relations of the valid events; without nodes and edges.

    Args:
        content: What is valid.
    """
    terms = {term.id: term for term in _terms(content)}
    statements = dict.fromkeys(each for each in _statements(content) if each[0] != each[2])
    known = sorted(each for each in statements if each[0] in terms and each[2] in terms)
    relations = _relations(known, terms)
    return finished(
        ThreatOntology(
            metadata=Metadata(extracted_at=iso_time(content.newest_ms), source=content.releases),
            statistics=Statistics(left_out=len(statements) - len(known)),
            terms=tuple(terms.values()),
            relations=tuple(relations),
        )
    )


def finished(ontology: ThreatOntology) -> ThreatOntology:
    """The ontology in order, with the numbers that follow from its relations: of each term, and the statistics."""
    angles: dict[str, list[float]] = defaultdict(list)
    neighbours: dict[str, Counter[str]] = defaultdict(Counter)
    for relation in ontology.relations:
        angles[relation.source_id].append(relation.delta_angle)
        angles[relation.target_id].append(relation.delta_angle)
        neighbours[relation.source_id][relation.target_id] += 1
        neighbours[relation.target_id][relation.source_id] += 1
    names = {term.id: term.canonical_name for term in ontology.terms}
    terms = tuple(
        msgspec.structs.replace(
            term,
            frequency=len(angles[term.id]) + 1,
            delta_angle=_mean(angles[term.id]),
            related_terms=_most_related(neighbours[term.id], angles, names),
        )
        for term in sorted(ontology.terms, key=lambda term: term.id)
    )
    key = ("source_id", "relation_type", "target_id")
    relations = tuple(sorted(ontology.relations, key=lambda each: tuple(getattr(each, name) for name in key)))
    statistics = _statistics(terms, relations, ontology.statistics.left_out)
    return msgspec.structs.replace(ontology, terms=terms, relations=relations, statistics=statistics)


def words_of(name: str, definition: str) -> frozenset[str]:
    """The words of a term, in lower case.

    >>> sorted(words_of("Web Shell", "A shell, on the web."))
    ['on', 'shell', 'the', 'web']
    """
    return frozenset(_WORD.findall(f"{name} {definition}".lower()))


def delta_angle(one: frozenset[str], other: frozenset[str]) -> float:
    """1 minus the Jaccard index of two sets of words, rounded; 1 if both are empty.

    >>> delta_angle(frozenset("ab"), frozenset("bc"))
    0.666667
    """
    return round(1 - len(one & other) / (len(one | other) or 1), 6)


def tactic_id(name: str) -> str:
    """The key of the term of a tactic, which several domains and feeds have under the same name."""
    return f"{TACTIC_KEY}{tactic_short_name(name)}"


def platform_id(name: str) -> str:
    """The key of the term of a platform, which feeds write with different capitals."""
    return f"platform:{name.lower()}"


# terms


def _terms(content: Current) -> Iterator[Term]:
    platforms: dict[str, str] = {}
    tactics: dict[str, Entity | None] = {}
    vulnerabilities: dict[str, None] = {}
    for event in all_events(content):
        for platform in meaningful(event.platforms):
            platforms.setdefault(platform_id(platform), platform)
        if not isinstance(event, Technique):
            vulnerabilities |= dict.fromkeys(event.cves)
        if isinstance(event, Entity):
            if event.kind == "tactic":  # ATT&CK's own text comes after that of other feeds
                tactics[tactic_id(event.name)] = event
                continue
        else:
            for tactic in event.tactics:
                tactics.setdefault(tactic_id(tactic), None)
        yield _term(event)
    for key, entity in tactics.items():
        yield _tactic(key, entity)
    for cve in vulnerabilities.keys() - content.entities.keys():
        yield named_term(cve, cve, "vulnerability")
    for key, name in platforms.items():
        yield named_term(key, name, "platform")


def _term(event: Technique | Template | Entity) -> Term:
    is_technique = isinstance(event, Technique)
    public = public_id(event)
    aliases = (public,) if is_technique else event.aliases if isinstance(event, Entity) else ()
    return Term(
        id=event.id,
        sch_id=semantic_part(hashed_content(event), hash_kind(event)),
        canonical_name=event.name,
        category="technique" if isinstance(event, Technique) else category_of(event),
        aliases=tuple(alias for alias in dict.fromkeys(aliases) if alias != event.name),
        definition=clean_text(event.text),
        rfc_sources=(public,) if is_technique else tuple(dict.fromkeys((public, event.feed))),
    )


def named_term(key: str, name: str, category: str) -> Term:
    """The term of a thing that events name, and that has no event of its own."""
    return Term(id=key, sch_id=semantic_part(f"{key}{name}", category), canonical_name=name, category=category)


def _tactic(key: str, entity: Entity | None) -> Term:
    short_name = key.partition(":")[2]
    name = entity.name if entity else tactic_name(short_name)
    public = (entity.external_id or entity.id) if entity else ""
    definition = clean_text(entity.text) if entity else ""
    return Term(
        id=key,
        sch_id=semantic_part(f"{public or short_name}{name}{definition}", "tactic"),
        canonical_name=name,
        category="tactic",
        aliases=tuple(dict.fromkeys(filter(None, (short_name, public)))),
        definition=definition,
        rfc_sources=(public,) if public else (),
    )


# relations


def _statements(content: Current) -> Iterator[Statement]:
    for technique in content.techniques.values():
        yield from _of_technique(technique)
    for template in content.templates.values():
        yield from _of_other(template, content)
    for entity in content.entities.values():
        yield from _of_other(entity, content)
    for each in content.relationships.values():
        source, target = content.valid_id(each.source.id), content.valid_id(each.target.id)
        yield source, RELATION_OF_STIX.get(each.relation, "related_to"), target


def _of_technique(technique: Technique) -> Iterator[Statement]:
    for tactic in technique.tactics:
        yield technique.id, "belongs_to", tactic_id(tactic)
    for platform in meaningful(technique.platforms):
        yield technique.id, "targets", platform_id(platform)
    parent, _, number = technique.id.rpartition(".")
    if parent and number.isdecimal():
        yield technique.id, "is_a", parent


def _of_other(event: Template | Entity, content: Current) -> Iterator[Statement]:
    relation = relation_to_technique(category_of(event))
    for technique in map(content.valid_id, event.techniques):
        yield event.id, relation, technique
    for cve in event.cves:
        yield event.id, "targets" if relation == "implements" else "detects", cve
    for platform in meaningful(event.platforms):
        yield event.id, "related_to", platform_id(platform)


def _relations(statements: Iterable[Statement], terms: dict[str, Term]) -> Iterator[Relation]:
    words = {id_: words_of(term.canonical_name, term.definition) for id_, term in terms.items()}
    for source, relation, target in statements:
        yield Relation(
            source=terms[source].canonical_name,
            target=terms[target].canonical_name,
            relation_type=relation,
            delta_angle=delta_angle(words[source], words[target]),
            source_id=source,
            target_id=target,
        )


# numbers


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 6) if values else 0.0


def _most_related(near: Counter[str], angles: dict[str, list[float]], names: dict[str, str]) -> tuple[str, ...]:
    """The neighbours with the most relations to the term, then those with the most of all."""
    order = sorted(near, key=lambda id_: (-near[id_], -len(angles[id_]), id_))
    return tuple(dict.fromkeys(names[id_] for id_ in order if id_ in names))[:MAX_RELATED_TERMS]


def _statistics(terms: tuple[Term, ...], relations: tuple[Relation, ...], left_out: int) -> Statistics:
    categories = Counter(term.category for term in terms)
    types = Counter(relation.relation_type for relation in relations)
    top = sorted(terms, key=lambda term: (-term.frequency, term.id))[:MAX_TOP_TERMS]
    return Statistics(
        total_terms=len(terms),
        total_relations=len(relations),
        categories=dict(sorted(categories.items())),
        relation_types=dict(sorted(types.items())),
        top_terms=tuple(TopTerm(name=t.canonical_name, id=t.id, frequency=t.frequency) for t in top),
        left_out=left_out,
    )
