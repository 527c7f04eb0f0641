"""The crosswalk: what covers a technique or a CVE, over all feeds. Pure.

    events ──> Crosswalk ──mitre_index──> techniques and groups by id
                    ├──crosswalk_index──> technique -> tests, rules, templates; CVE -> templates, exploits
                    └──lookup───────────> all of it for one id, and from which feed and release

Ids that were revoked are followed to their successors: a rule that names T1562.001 covers T1685. What is not active
covers nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from schemas.events import Entity, Event, Relationship, Report, Technique, Template
from schemas.successors import chain

COUNTED = {"technique_to_atomic": "atomic-red-team"}
"""Key of the crosswalk -> feed, for techniques with the number of items."""
LISTED = {
    "technique_to_nuclei": "nuclei-templates",
    "technique_to_sigma": "sigma",
    "technique_to_car": "car",
    "technique_to_lolbas": "lolbas",
    "technique_to_caldera": "caldera",
}
"""Key of the crosswalk -> feed, for techniques with the ids of items."""
LISTED_BY_CVE = {"cve_to_nuclei": "nuclei-templates", "cve_to_exploitdb": "exploitdb"}
"""The same for CVEs."""
COVERING_RELATIONS = ("mitigates", "detects")


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a feed has on a technique or a CVE.

    Attributes:
        feed, release: Where it is from: the feed, and the release or commit.
        kind: `sigma`, `nuclei`, `atomic`, ...; a kind of entity; of a relationship, the kind of its source.
        id: As people know it: `G0016`, `CAR-2020-09-001`, the id of a rule.
        name: Its name.
        relation: Of a relationship, its type.
        path: Its file in the feed.
    """

    feed: str
    release: str
    kind: str
    id: str
    name: str
    relation: str = ""
    path: str = ""


class _Row(msgspec.Struct, frozen=True):
    """An item with what it names."""

    item: Item
    techniques: tuple[str, ...] = ()
    cves: tuple[str, ...] = ()


class Crosswalk:
    """What is known of techniques, groups and CVEs.

    Args:
        events: Of any feeds; of two events with one id the later counts.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self._techniques: dict[str, Technique] = {}
        self._entities: dict[str, Entity] = {}
        self._rows: dict[tuple[str, str], _Row] = {}
        self._edges: dict[str, Relationship] = {}
        self._reports: Counter[str] = Counter()
        for event in events:
            self._add(event)
        self._by_technique = self._grouped(lambda row: [self.successors(each)[-1] for each in row.techniques])
        self._by_cve = self._grouped(lambda row: row.cves)

    def _add(self, event: Event) -> None:
        if isinstance(event, Technique):
            self._techniques[event.id] = event
        elif isinstance(event, Relationship):
            self._put_edge(event)
        elif isinstance(event, Report):
            self._reports[event.feed] += event.status == "active"
        elif event.status != "active":
            self._rows.pop((type(event).__name__, event.id), None)
            self._entities.pop(event.id, None)
        else:
            self._rows[type(event).__name__, event.id] = _Row(_item(event), event.techniques, event.cves)
            if isinstance(event, Entity):
                self._entities[event.id] = event

    def _put_edge(self, event: Relationship) -> None:
        """Keep a relationship to a technique, without its text."""
        if event.target.kind != "technique":
            return
        if event.status == "active" and event.source.status == "active":
            self._edges[event.id] = msgspec.structs.replace(event, text="")
        else:
            self._edges.pop(event.id, None)

    def _grouped(self, keys_of: Callable[[_Row], Iterable[str]]) -> dict[str, list[Item]]:
        found: dict[str, list[Item]] = {}
        for row in self._rows.values():
            for key in dict.fromkeys(keys_of(row)):
                found.setdefault(key, []).append(row.item)
        return {key: sorted(items, key=_order) for key, items in sorted(found.items())}

    def successors(self, technique: str) -> list[str]:
        """An id and those that replaced it, one after the other; the last one is that of today."""
        return chain(technique, self._revoked_by)

    def _revoked_by(self, technique: str) -> str:
        known = self._techniques.get(technique)
        return known.revoked_by if known else ""

    # the files

    def mitre_index(self) -> dict[str, Any]:
        """`mitre_index.json`: the active techniques and groups by id, and the successors of revoked ids."""
        techniques = {key: _technique(t) for key, t in sorted(self._techniques.items()) if t.status == "active"}
        groups = {e.external_id: _group(e) for e in self._entities.values() if e.kind == "group" and e.external_id}
        revoked = {key: self.successors(key)[-1] for key, t in sorted(self._techniques.items()) if t.revoked_by}
        return {"techniques": techniques, "groups": dict(sorted(groups.items())), "revoked": revoked}

    def crosswalk_index(self) -> dict[str, Any]:
        """`crosswalk_index.json`: technique -> number of tests, or ids of rules; CVE -> ids."""
        counted = {
            name: {key: len(items) for key, items in _of_feed(self._by_technique, feed)}
            for name, feed in COUNTED.items()
        }
        listed = {
            name: {key: [item.id for item in items] for key, items in _of_feed(grouped, feed)}
            for names, grouped in ((LISTED, self._by_technique), (LISTED_BY_CVE, self._by_cve))
            for name, feed in names.items()
        }
        return counted | listed

    def counts(self) -> dict[str, int]:
        """Feed -> number of its active techniques, templates, entities and passages; in order of name."""
        found = Counter(t.feed for t in self._techniques.values() if t.status == "active")
        found.update(row.item.feed for row in self._rows.values())
        return dict(sorted((found + self._reports).items()))

    # lookup

    def lookup(self, asked: str) -> dict[str, Any]:
        """What is known of an id: a technique, a group or other entity, or a CVE.

        Args:
            asked: In any case; a revoked technique is followed to its successor.

        Returns:
            `mitre` (None: no feed has this id), `atomic_tests`, `nuclei_templates`, `sigma_rules`; and beyond:
            `id`, `successors` of a revoked one, `covered_by`, and `used_by` or, of an actor, `uses`.
        """
        name = asked.strip().upper()
        chain = self.successors(name)
        key = chain[-1]
        entity = self._entity(key)
        covered = self._by_technique.get(key) or self._by_cve.get(key, [])
        edges = [edge for edge in self._edges.values() if self.successors(edge.target.id)[-1] == key]
        covering = [self._source(edge) for edge in edges if edge.relation in COVERING_RELATIONS]
        using = [self._source(edge) for edge in edges if edge.relation == "uses"]
        by_feed = Counter(item.feed for item in covered)
        technique = self._techniques.get(key)
        result: dict[str, Any] = {
            "mitre": _technique(technique) if technique else _entity(entity) if entity else None,
            "atomic_tests": by_feed["atomic-red-team"],
            "nuclei_templates": by_feed["nuclei-templates"],
            "sigma_rules": by_feed["sigma"],
            "id": key,
            "successors": chain[1:],
            "covered_by": _plain([*covered, *sorted(covering, key=_order)]),
            "used_by": _plain(sorted(using, key=_order)),
        }
        if entity is not None:
            result["uses"] = sorted(
                {e.target.id for e in self._edges.values() if e.relation == "uses" and e.source.id == entity.id}
            )
        return result

    def _entity(self, key: str) -> Entity | None:
        same = (e for e in self._entities.values() if key in (e.external_id.upper(), e.id.upper()))
        return next(same, None)

    def _source(self, edge: Relationship) -> Item:
        source = self._entities.get(edge.source.id)
        return Item(
            edge.feed, edge.release, edge.source.kind, (source.external_id if source else "") or edge.source.id,
            edge.source.name, edge.relation,
        )  # fmt: skip


def _item(event: Template | Entity) -> Item:
    name = event.id.removeprefix(f"{event.feed}:")
    if isinstance(event, Template):
        kind = event.rule_type or "nuclei"
    else:
        kind, name = event.kind, event.external_id or (event.name if event.kind == "lolbin" else name)
    return Item(event.feed, event.release, kind, name, event.name, path=event.path)


def _order(item: Item) -> tuple[str, str, str]:
    return item.feed, item.relation, item.id


def _of_feed(grouped: Mapping[str, list[Item]], feed: str) -> Iterator[tuple[str, list[Item]]]:
    for key, items in grouped.items():
        if own := [item for item in items if item.feed == feed]:
            yield key, own


def _technique(technique: Technique) -> dict[str, Any]:
    return {
        "id": technique.id,
        "name": technique.name,
        "tactics": list(technique.tactics),
        "platforms": list(technique.platforms),
        "description": technique.text,
        "domain": technique.domain,
        "feed": technique.feed,
        "release": technique.release,
        "status": technique.status,
    }


def _group(group: Entity) -> dict[str, Any]:
    return {"id": group.external_id, "name": group.name, "aliases": list(group.aliases)}


def _entity(entity: Entity) -> dict[str, Any]:
    return {
        "id": entity.external_id or entity.id,
        "name": entity.name,
        "kind": entity.kind,
        "aliases": list(entity.aliases),
        "description": entity.text,
        "feed": entity.feed,
        "release": entity.release,
    }


def _plain(items: Iterable[Item]) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(item) for item in items]
