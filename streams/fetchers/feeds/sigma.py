"""Sigma: detection rules for logs, one YAML file each.

The tags of a rule name its ATT&CK tactics and techniques; they are fields of their own, not words of the text, so
that a model can't read off what it is to predict. A file without `detection` (a correlation, a filter) is left out.
"""

from __future__ import annotations

import re

from schemas.events import LogSource, Template
from schemas.topics import TEMPLATES
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.formats import fields
from streams.fetchers.formats.fields import Fields, cves, lines_of, mapping, required, techniques, text, texts
from streams.fetchers.sources.file_tree import FileTree, NotOfFeed

NAME = "sigma"
_NOT_RULES = ("deprecated/", "documentation/", "other/", "regression_data/", "tests/", "unsupported/")
_ID_TAG = re.compile(r"[tgsmc]\d{4}(\.\d{3})?|ta\d{4}|ds\d{4}")
_ATTACK = "attack."
_DEPRECATED = ("deprecated", "unsupported")
_SEVERITIES = {"informational": "info"}


def is_rule_path(path: str) -> bool:
    """Whether a path of the repository can be a rule.

    >>> is_rule_path("rules/windows/a.yml"), is_rule_path("deprecated/b.yml"), is_rule_path("README.md")
    (True, False, False)
    """
    return path.endswith((".yml", ".yaml")) and not path.startswith(_NOT_RULES)


def parse_rule(data: bytes, path: str, release: str) -> Template:
    """The rule in a file.

    Raises:
        BadRecord: `bad-yaml`, `not-an-object`, `empty`, `no-id`, `no-title`, or a limit of `schemas.limits`.
        NotOfFeed: `not-a-rule`.
    """
    rule = fields.yaml_mapping(data)
    if "detection" not in rule:
        raise NotOfFeed("not-a-rule")
    tags, level, rule_status = texts(rule, "tags"), text(rule, "level").lower(), text(rule, "status").lower()
    return Template(
        id=f"{NAME}:{required(rule, 'id')}",
        feed=NAME,
        release=release,
        status="deprecated" if rule_status in _DEPRECATED else "active",
        name=required(rule, "title", 500),
        text=text(rule, "description"),
        severity=_SEVERITIES.get(level, level),
        tags=tuple(tag for tag in tags if not tag.startswith(_ATTACK)),
        techniques=techniques(tag for tag in tags if tag.startswith(_ATTACK)),
        cves=cves(tag.replace(".", "-") for tag in tags if tag.startswith("cve.")),
        path=path,
        rule_type=NAME,
        rule_status=rule_status,
        log_source=_log_source(mapping(rule, "logsource")),
        detection="\n".join(lines_of(rule["detection"])),
        false_positives=texts(rule, "falsepositives"),
        author=text(rule, "author"),
        date=text(rule, "date"),
        tactics=_tactics(tags),
        references=texts(rule, "references"),
    )


def _log_source(found: Fields) -> LogSource:
    return LogSource(
        category=text(found, "category"), product=text(found, "product"), service=text(found, "service")
    )


def _tactics(tags: tuple[str, ...]) -> tuple[str, ...]:
    """The tactics among the tags; older rules write them with `_`."""
    names = (tag.removeprefix(_ATTACK).lower().replace("_", "-") for tag in tags if tag.startswith(_ATTACK))
    return tuple(sorted({name for name in names if not _ID_TAG.fullmatch(name)}))


FEED = FeedSpec(
    name=NAME,
    default_source="https://github.com/SigmaHQ/sigma.git",
    topics=(TEMPLATES,),
    collection=FileTree(includes=is_rule_path, parse=parse_rule),
    modules=(__name__, *fields.MODULES),
    about="detection rules for logs",
    teaches=("distilbert-mitre",),
    labels_by_technique=True,
)
