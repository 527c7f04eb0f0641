"""MITRE D3FEND: the defensive techniques of its ontology, JSON-LD.

The ontology has artifacts, offensive techniques and references, too; a defensive technique is what has a D3FEND id.
"""

from __future__ import annotations

from typing import Any

from schemas.events import Entity
from schemas.topics import ENTITIES
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.formats import json_items
from streams.fetchers.formats.fields import Fields, required, text
from streams.fetchers.sources.resource import ParsedResource, Resource, file_named

NAME = "d3fend"
_ID = "d3f:d3fend-id"


def parse(data: bytes, _file_name: str, feed: str) -> ParsedResource:
    """The defensive techniques of the ontology.

    Raises:
        BadRecord: `bad-json`, `wrong-form`, `too-many`.
    """
    document = json_items.decode_document(data)
    graph = json_items.items_at(document, "@graph")
    items = [each for each in graph if isinstance(each, dict) and _ID in each]
    release = next((_value(each, "owl:versionInfo") for each in graph if _is_ontology(each)), "")
    return json_items.parsed_items(
        feed, release, items, _key, lambda item: _countermeasure(item, feed, release), is_complete=True
    )


def _is_ontology(item: Any) -> bool:
    return isinstance(item, dict) and "owl:Ontology" in (item.get("@type"), *_list(item.get("@type")))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _value(item: Fields, key: str) -> str:
    """A text of JSON-LD, which may be written as it is or as `{"@value": ...}`, alone or in a list."""
    value = item.get(key)
    value = value[0] if isinstance(value, list) and value else value
    return text(value, "@value") if isinstance(value, dict) else text({key: value}, key)


def _key(item: Fields) -> str:
    return f"{NAME}:{required({'id': _value(item, _ID)}, 'id', 60)}"


def _countermeasure(item: Fields, feed: str, release: str) -> Entity:
    parents = item.get("rdfs:subClassOf")
    named = (
        text(each, "@id")
        for each in (parents if isinstance(parents, list) else [parents])
        if isinstance(each, dict)
    )
    synonym = _value(item, "d3f:synonym")
    return Entity(
        id=_key(item),
        feed=feed,
        release=release,
        kind="countermeasure",
        name=required({"label": _value(item, "rdfs:label")}, "label", 500),
        text=_value(item, "d3f:definition"),
        external_id=_value(item, _ID),
        aliases=(synonym,) if synonym else (),
        tags=tuple(dict.fromkeys(name.removeprefix("d3f:") for name in named if name.startswith("d3f:"))),
        references=tuple(filter(None, (text(item, "@id"),))),
    )


FEED = FeedSpec(
    name=NAME,
    default_source="https://d3fend.mitre.org/ontologies/d3fend.json",
    topics=(ENTITIES,),
    collection=Resource(file_in=file_named("d3fend.json"), parse=parse),
    modules=(__name__, *json_items.MODULES),
    about="defensive techniques",
)
