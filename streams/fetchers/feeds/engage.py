"""MITRE Engage: goals, approaches and activities of adversary engagement, three JSON files of its repository."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.errors import BadRecord
from schemas.events import Entity
from schemas.topics import ENTITIES
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.formats import fields, json_items
from streams.fetchers.formats.fields import Fields, as_mapping, mappings, paragraphs, required, text, texts
from streams.fetchers.sources.file_tree import FileTree

NAME = "engage"
_CATEGORIES = {
    "activity_details.json": "activity",
    "approach_details.json": "approach",
    "goal_details.json": "goal",
}
"""File -> what it has."""
_MAX_REFERENCES = 256


def is_detail_path(path: str) -> bool:
    """Whether a path of the repository has activities, approaches or goals.

    >>> is_detail_path("Data/json/activity_details.json"), is_detail_path("Data/json/activities.json")
    (True, False)
    """
    return path.rpartition("/")[2] in _CATEGORIES


def parse_details(data: bytes, path: str, release: str) -> Sequence[Entity]:
    """The activities, approaches or goals in a file.

    Raises:
        BadRecord: `bad-json`, `not-an-object`, `no-name`, `bad-id`, or a limit of `schemas.limits`.
    """
    document = as_mapping(json_items.decode_document(data), "the file")
    category = _CATEGORIES[path.rpartition("/")[2]]
    return [_entity(key, as_mapping(item, key), category, path, release) for key, item in document.items()]


def _entity(key: str, item: Fields, category: str, path: str, release: str) -> Entity:
    if not key.isalnum():
        raise BadRecord("bad-id", f"{key!r:.100} is not an id such as EAC0001")
    return Entity(
        id=f"{NAME}:{key}",
        feed=NAME,
        release=release,
        kind="engagement-activity",
        name=required(item, "name", 500),
        text=paragraphs(text(item, "description"), text(item, "long_description").replace("<br>", "\n")),
        external_id=key,
        category=category,
        tags=tuple(dict.fromkeys((*texts(item, "goals"), *texts(item, "approaches"), *texts(item, "activities")))),
        techniques=fields.techniques(text(each, "id") for each in mappings(item, "attack_techniques")),
        references=tuple(filter(None, (text(e, "url") for e in mappings(item, "references"))))[:_MAX_REFERENCES],
        path=path,
    )


FEED = FeedSpec(
    name=NAME,
    default_source="https://github.com/mitre/engage.git",
    topics=(ENTITIES,),
    collection=FileTree(includes=is_detail_path, parse=parse_details, is_named_by_path=True),
    modules=(__name__, *json_items.MODULES),
    about="adversary engagement",
    labels_by_technique=True,
)
