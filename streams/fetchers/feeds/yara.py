"""YARA: rules for files, several in a file. A rule is known by its folder and its name: names repeat."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from schemas.errors import BadRecord
from schemas.events import Template
from schemas.topics import TEMPLATES
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.formats import fields
from streams.fetchers.formats.fields import Fields, text
from streams.fetchers.sources.file_tree import FileTree, NotOfFeed

NAME = "yara-rules"
_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|/\*.*?\*/|//[^\n]*|/(?:[^/\\\n]|\\.)+/[is]*', re.DOTALL)
_RULE = re.compile(r"^[ \t]*(?:(?:private|global)\s+)*rule\s+(\w{1,128})\s*(?::([\w \t\r\n]*))?\{", re.MULTILINE)
_META = re.compile(r'^\s*(\w+)\s*=\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE)
_SECTION = re.compile(r"^\s*(?:strings|condition)\s*:", re.MULTILINE)
_MAX_DETECTION = 20_000


def is_rules_path(path: str) -> bool:
    """Whether a path of the repository can be rules.

    >>> is_rules_path("malware/APT_a.yar"), is_rules_path("index.yar"), is_rules_path("README.md")
    (True, True, False)
    """
    return path.endswith((".yar", ".yara"))


def parse_rules(data: bytes, path: str, release: str) -> Sequence[Template]:
    """The rules in a file.

    Raises:
        BadRecord: `no-rule`: there is text, but no rule; or a limit of `schemas.limits`.
        NotOfFeed: `index`: it only includes other files.
    """
    source = data.decode("utf-8-sig", errors="replace")
    found = list(_rules(source))
    if not found:
        if all(line.startswith(("include", "import", "/", "*")) for line in source.split("\n") if line.strip()):
            raise NotOfFeed("index")
        raise BadRecord("no-rule", "the file has no `rule NAME {`")
    folder = path.rpartition("/")[0]
    return [_template(name, tags, body, folder, path, release) for name, tags, body in found]


def _rules(source: str) -> Iterator[tuple[str, str, str]]:
    """(name, tags, text) of each rule; what stands in a comment or a string is no rule."""
    blank = _TOKEN.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), source)
    heads = list(_RULE.finditer(blank))
    ends = [*(head.start() for head in heads[1:]), len(source)]
    for head, end in zip(heads, ends, strict=False):  # there may be no rule
        yield head[1], head[2] or "", source[head.start() : end].strip()


def _template(name: str, tags: str, body: str, folder: str, path: str, release: str) -> Template:
    section = _SECTION.search(body)
    meta: Fields = dict(_META.findall(body[: section.start() if section else len(body)]))
    said = list(meta.values())
    return Template(
        id=f"{NAME}:{folder}:{name}",
        feed=NAME,
        release=release,
        name=name,
        text=text(meta, "description"),
        tags=tuple(dict.fromkeys((*filter(None, folder.split("/")[-1:]), *tags.split()))),
        techniques=fields.techniques(said),
        cves=fields.cves((name.replace("_", "-"), *said)),
        path=path,
        rule_type="yara",
        detection=body[section.start() :][:_MAX_DETECTION].strip() if section else "",
        author=text(meta, "author"),
        date=text(meta, "date")[:40],
        references=tuple(filter(None, (text(meta, "reference"), text(meta, "ref")))),
    )


FEED = FeedSpec(
    name=NAME,
    default_source="https://github.com/Yara-Rules/rules.git",
    topics=(TEMPLATES,),
    collection=FileTree(includes=is_rules_path, parse=parse_rules, is_named_by_path=True),
    modules=(__name__, *fields.MODULES),
    about="rules for files",
)
