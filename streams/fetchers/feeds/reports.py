"""Reports: sentences of threat reports with the techniques that they tell of. Users ask about text like theirs.

annoctr   the layout of AnnoCTR: a JSON file a report, one line a mention, with the sentence around it
reports   a folder of your own: `*.jsonl`, one line a passage: {"text": "...", "techniques": ["T1566.001"]}

A passage names techniques; their tactics are those of ATT&CK as it is published (`base/labels.py`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import partial

from schemas.errors import BadRecord
from schemas.events import Report, ReportSpan
from schemas.topics import REPORTS
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.formats import fields, json_items
from streams.fetchers.formats.fields import Fields, as_mapping, text, texts
from streams.fetchers.sources.file_tree import FileTree, NotOfFeed

ANNOCTR, REPORTS_OF_YOURS = "annoctr", "reports"
_ANNOCTR_PATH = re.compile(r"(?:.*/)?all/linking_mitre_only/[^/]+\.json")
_KINDS = {"TECHNIQUE": "technique", "TACTIC": "tactic", "GROUP": "group", "MALWARE": "malware", "TOOL": "tool"}
_ID = re.compile(r"attack\.mitre\.org/\w+/([A-Z]{1,2}\d{4}(?:/\d{3})?)")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_MAX_SPANS = 256


def parse_annoctr(data: bytes, path: str, release: str) -> Sequence[Report]:
    """The sentences of a report that mention anything, each with its mentions.

    Raises:
        BadRecord: `bad-json`, `not-an-object`, or a limit of `schemas.limits`.
        NotOfFeed: `empty`.
    """
    name = path.rpartition("/")[2].removesuffix(".json")
    passages: dict[str, dict[ReportSpan, None]] = {}
    for line in _lines(data):
        before, mention, after = (_raw(line, key) for key in ("_context_left", "mention", "_context_right"))
        if span := _mention(line, len(before), mention):
            passages.setdefault(before + mention + after, {})[span] = None
    date = _DATE.search(name)
    return [
        _report(ANNOCTR, name, name, said, tuple(spans), path, release, date[0] if date else "")
        for said, spans in passages.items()
    ]


def _raw(line: Fields, key: str) -> str:
    value = line.get(key)
    return value if isinstance(value, str) else ""


def _mention(line: Fields, start: int, mention: str) -> ReportSpan | None:
    """The span of a mention; None if it is of a kind that is not read, or has no text."""
    kind, name, link = (
        _KINDS.get(text(line, "entity_type")),
        text(line, "label_title"),
        _ID.search(text(line, "label_link")),
    )
    if kind is None or not mention:
        return None
    return ReportSpan(
        start=start,
        end=start + len(mention),
        kind=kind,
        id=link[1].replace("/", ".") if link else "",
        name=name[:500],
        tactics=(_short(name),) if kind == "tactic" and name else (),
    )


def _short(name: str) -> str:
    """The short name of a tactic.

    >>> _short("Command and Control")
    'command-and-control'
    """
    return "-".join(name.lower().split())


def parse_passages(data: bytes, path: str, release: str, *, feed: str = REPORTS_OF_YOURS) -> Sequence[Report]:
    """The passages in a file of your own.

    Args:
        data, path, release: As for any `ParseFile`.
        feed: Name of the feed.

    Raises:
        BadRecord: `bad-json`, `not-an-object`; `no-text`: a passage has none; `bad-technique`: it names
            something else than techniques such as T1566.001.
    """
    document = path.removesuffix(".jsonl")
    found: dict[str, Report] = {}
    for number, line in enumerate(_lines(data), 1):
        said, title = text(line, "text"), text(line, "title") or document.rpartition("/")[2]
        if not said:
            raise BadRecord("no-text", f"line {number}: `text` is {line.get('text')!r:.100}: it must be a text")
        named = texts(line, "techniques")
        known = fields.techniques(named)
        if len(known) < len({each.upper() for each in named}):
            raise BadRecord("bad-technique", f"line {number}: {named!r:.200}: give ids such as T1566.001")
        about = [ReportSpan(start=0, end=len(said), kind="technique", id=each) for each in known]
        about += [
            ReportSpan(start=0, end=len(said), kind="tactic", name=each, tactics=(_short(each),))
            for each in texts(line, "tactics")
        ]
        report = _report(
            feed,
            text(line, "document") or document,
            title,
            said,
            tuple(about),
            path,
            release,
            text(line, "date"),
        )
        found.setdefault(report.id, report)
    return list(found.values())


def _report(
    feed: str,
    document: str,
    title: str,
    said: str,
    spans: tuple[ReportSpan, ...],
    path: str,
    release: str,
    date: str,
) -> Report:
    key = hashlib.blake2b(said.encode(errors="replace"), digest_size=8).hexdigest()
    return Report(
        id=f"{feed}:{document[:200]}:{key}",
        feed=feed,
        release=release,
        document=f"{feed}:{document[:200]}",
        name=title[:500],
        text=said,
        spans=tuple(sorted(spans, key=lambda span: (span.start, span.end, span.kind, span.id)))[:_MAX_SPANS],
        path=path,
        date=date[:40],
    )


def _lines(data: bytes) -> Iterator[Fields]:
    """The objects of a file with one JSON object a line."""
    lines = [line for line in data.split(b"\n") if line.strip()]
    if not lines:
        raise NotOfFeed("empty")
    for number, line in enumerate(lines, 1):
        yield as_mapping(json_items.decode_document(line), f"line {number}")


ANNOCTR_FEED = FeedSpec(
    name=ANNOCTR,
    default_source="https://github.com/boschresearch/anno-ctr-lrec-coling-2024.git",
    topics=(REPORTS,),
    collection=FileTree(
        includes=lambda path: _ANNOCTR_PATH.fullmatch(path) is not None,
        parse=parse_annoctr,
        is_named_by_path=True,
    ),
    modules=(__name__, *json_items.MODULES),
    about="annotated threat reports",
    teaches=("distilbert-mitre",),
    labels_by_technique=True,
)


def feed_of(name: str) -> FeedSpec:
    """A feed of reports of your own, `reports` or `reports-NAME`."""
    return FeedSpec(
        name=name,
        default_source="",
        topics=(REPORTS,),
        collection=FileTree(
            includes=lambda path: path.endswith(".jsonl"),
            parse=partial(parse_passages, feed=name),
            is_named_by_path=True,
        ),
        modules=(__name__, *json_items.MODULES),
        about="reports of your own, `*.jsonl`",
        teaches=("distilbert-mitre",),
        labels_by_technique=True,
    )
