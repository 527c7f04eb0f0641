"""Wazuh: rules for logs, XML, many in a file. A file has several roots; document types are refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from schemas.errors import BadRecord
from schemas.events import LogSource, Template
from schemas.topics import TEMPLATES
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.formats import fields
from streams.fetchers.sources.file_tree import FileTree, NotOfFeed

NAME = "wazuh-rules"
_LEVELS = ((15, "critical"), (12, "high"), (7, "medium"), (0, "low"))
"""Lowest level -> severity, as Wazuh's dashboard names them."""
_DECLARATION = re.compile(r"<\?xml[^>]*\?>")
_NOT_DETECTION = frozenset(("description", "mitre", "group", "info"))


def is_rules_path(path: str) -> bool:
    """Whether a path of the repository has rules.

    >>> is_rules_path("ruleset/rules/0095-sshd_rules.xml"), is_rules_path("ruleset/decoders/a.xml")
    (True, False)
    """
    return "rules/" in path and path.endswith(".xml")


def parse_rules(data: bytes, path: str, release: str) -> Sequence[Template]:
    """The rules in a file.

    Raises:
        BadRecord: `bad-xml`; `no-id`: a rule has none; or a limit of `schemas.limits`.
        NotOfFeed: `no-rules`.
    """
    source = _DECLARATION.sub("", data.decode("utf-8-sig", errors="replace"), count=1)
    if "<!DOCTYPE" in source or "<!ENTITY" in source:
        raise BadRecord("bad-xml", "the file declares a document type or entities; none are read")
    try:
        root = ElementTree.fromstring(f"<root>{source}</root>")
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise BadRecord("bad-xml", f"{error}") from error
    found = [
        _template(rule, group.get("name", ""), path, release)
        for group in root.iter("group")
        for rule in group.findall("rule")
    ]
    if not found:
        raise NotOfFeed("no-rules")
    return found


def _template(rule: ElementTree.Element, groups: str, path: str, release: str) -> Template:
    number, level = rule.get("id", "").strip(), rule.get("level", "").strip()
    if not number.isdecimal():
        raise BadRecord("no-id", f"a rule has the id {number!r:.50}, not a number")
    description = "".join(part.text or "" for part in rule.findall("description")).strip()
    named = (part.text or "" for part in rule.findall("mitre/id"))
    own = (part.text or "" for part in rule.findall("group"))
    tags = (tag.strip() for each in (groups, *own) for tag in each.split(","))
    return Template(
        id=f"{NAME}:{number}",
        feed=NAME,
        release=release,
        name=(description or f"Rule {number}")[:500],
        text=description,
        severity=_severity(int(level)) if level.isdecimal() and len(level) < 4 else "",
        tags=tuple(dict.fromkeys(filter(None, tags))),
        techniques=fields.techniques(named),
        cves=fields.cves([description]),
        path=path,
        rule_type="wazuh",
        log_source=LogSource(product=groups.split(",", maxsplit=1)[0].strip()[:200]),
        detection="\n".join(_condition(part) for part in rule if part.tag not in _NOT_DETECTION),
    )


def _severity(level: int) -> str:
    return next(name for lowest, name in _LEVELS if level >= lowest)


def _condition(part: ElementTree.Element) -> str:
    attributes = "".join(f" {name}={value}" for name, value in part.attrib.items())
    return f"{part.tag}{attributes}: {(part.text or '').strip()}"


FEED = FeedSpec(
    name=NAME,
    default_source="https://github.com/wazuh/wazuh.git",
    topics=(TEMPLATES,),
    collection=FileTree(includes=is_rules_path, parse=parse_rules),
    modules=(__name__, *fields.MODULES),
    about="rules for logs",
    teaches=("distilbert-mitre",),
    labels_by_technique=True,
)
