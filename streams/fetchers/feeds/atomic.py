"""Atomic Red Team: tests of defences, one YAML file per technique with several tests in it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from schemas.events import Template
from schemas.ids import TECHNIQUE
from schemas.topics import TEMPLATES
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.formats import fields
from streams.fetchers.formats.fields import Fields, mapping, mappings, paragraphs, required, text, texts
from streams.fetchers.sources.file_tree import FileTree

NAME = "atomic-red-team"
_PATH = re.compile(rf"(?:.*/)?({TECHNIQUE})/\1\.ya?ml")


def is_test_path(path: str) -> bool:
    """Whether a path of the repository has tests.

    >>> is_test_path("atomics/T1003.001/T1003.001.yaml"), is_test_path("atomics/Indexes/index.yaml")
    (True, False)
    """
    return _PATH.fullmatch(path) is not None


def parse_tests(data: bytes, path: str, release: str) -> Sequence[Template]:
    """The tests in a file.

    Raises:
        BadRecord: `bad-yaml`, `not-an-object`, `empty`, `no-attack-technique`, `no-name`, or a limit of
            `schemas.limits`.
    """
    file = fields.yaml_mapping(data)
    technique = required(file, "attack_technique", 20)
    return [_test(test, technique, path, release) for test in mappings(file, "atomic_tests")]


def _test(test: Fields, technique: str, path: str, release: str) -> Template:
    name, executor = required(test, "name", 500), mapping(test, "executor")
    return Template(
        id=f"{NAME}:{text(test, 'auto_generated_guid') or f'{technique} {name}'[:200]}",
        feed=NAME,
        release=release,
        name=name,
        text=text(test, "description"),
        tags=texts(executor, "name"),
        techniques=fields.techniques([technique]),
        path=path,
        rule_type="atomic",
        detection=paragraphs(text(executor, "command"), text(executor, "steps")),
        platforms=texts(test, "supported_platforms"),
    )


FEED = FeedSpec(
    name=NAME,
    default_source="https://github.com/redcanaryco/atomic-red-team.git",
    topics=(TEMPLATES,),
    collection=FileTree(includes=is_test_path, parse=parse_tests),
    modules=(__name__, *fields.MODULES),
    about="tests of defences by technique",
    teaches=("distilbert-mitre",),
    labels_by_technique=True,
)
