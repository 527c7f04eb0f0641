"""Caldera: the abilities of an adversary emulation, from `mitre/stockpile` (a submodule of `mitre/caldera`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from schemas.events import Template
from schemas.topics import TEMPLATES
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.formats import fields
from streams.fetchers.formats.failsafe_yaml import documents
from streams.fetchers.formats.fields import Fields, as_mapping, mapping, required, text
from streams.fetchers.sources.file_tree import FileTree, NotOfFeed

NAME = "caldera"
_NO_TACTICS = frozenset(("multiple", "build-capabilities", "response", "detection", "setup", ""))
"""What Caldera writes as a tactic of an ability that serves none of ATT&CK."""


def is_ability_path(path: str) -> bool:
    """Whether a path of the repository can be an ability.

    >>> is_ability_path("data/abilities/discovery/a.yml"), is_ability_path("data/adversaries/b.yml")
    (True, False)
    """
    return "abilities/" in path and path.endswith((".yml", ".yaml"))


def parse_abilities(data: bytes, path: str, release: str) -> Sequence[Template]:
    """The abilities in a file.

    Raises:
        BadRecord: `bad-yaml`, `not-an-object`, `no-id`, `no-name`, or a limit of `schemas.limits`.
        NotOfFeed: `empty`.
    """
    found = [document for document in documents(data) if document]
    items = [item for each in found for item in (each if isinstance(each, list) else [each])]
    if not items:
        raise NotOfFeed("empty")
    return [_ability(as_mapping(item, "an ability"), path, release) for item in items]


def _ability(ability: Fields, path: str, release: str) -> Template:
    tactic, technique = text(ability, "tactic").lower(), mapping(ability, "technique")
    return Template(
        id=f"{NAME}:{required(ability, 'id')}",
        feed=NAME,
        release=release,
        name=required(ability, "name", 500),
        text=text(ability, "description"),
        techniques=fields.techniques([text(technique, "attack_id"), text(ability, "technique_id")]),
        path=path,
        rule_type=NAME,
        detection="\n\n".join(dict.fromkeys(_commands(ability))),
        platforms=tuple(mapping(ability, "platforms")),
        tactics=() if tactic in _NO_TACTICS else (tactic,),
    )


def _commands(ability: Fields) -> Iterator[str]:
    platforms = mapping(ability, "platforms")
    for platform in platforms:
        executors = mapping(platforms, platform)
        yield from filter(None, (text(mapping(executors, name), "command") for name in executors))


FEED = FeedSpec(
    name=NAME,
    default_source="https://github.com/mitre/stockpile.git",
    topics=(TEMPLATES,),
    collection=FileTree(includes=is_ability_path, parse=parse_abilities),
    modules=(__name__, *fields.MODULES),
    about="abilities of adversary emulation",
    teaches=("distilbert-mitre",),
    labels_by_technique=True,
)
