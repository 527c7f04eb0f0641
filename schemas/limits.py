"""Limits of the strings and lists of an event: one rule for all feeds, checked where an event is encoded.

`MAX_EVENT_BYTES` limits an event as a whole, and with it its texts. The other strings and all lists have limits of
their own, because they are copied: a name into every relationship of its entity, tactics into examples, windows and
triggers, a release into every event of a feed.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter, gt

import msgspec

from schemas.errors import BadRecord
from schemas.events import Entity, Event, LogSource, NodeRef, Relationship, Report, ReportSpan, Technique, Template

MAX_ID_CHARS = 300
"""An id, of an event or of what replaces it."""
MAX_NAME_CHARS = 500
"""A name or an alias. The longest name of ATT&CK 17.1 has 64 characters, of Nuclei in 2023 122."""
MAX_WORD_CHARS = 200
"""One word of a list, such as a tactic or a tag; a kind, a domain, a severity, a release."""
MAX_PATH_CHARS = 1_024
"""The path of a file in its feed."""
MAX_LINE_CHARS = 2_048
"""One line of a list: a reference, a false positive; the authors of a rule."""
MAX_TACTICS = 32
"""Tactics of one technique; ATT&CK 17.1 has four at most."""
MAX_WORDS = 256
"""Values of any other list: platforms, aliases, tags, techniques, CVEs."""

_EVENT = {
    "id": MAX_ID_CHARS, "feed": MAX_WORD_CHARS, "release": MAX_WORD_CHARS, "revoked_by": MAX_ID_CHARS,
    "kept_by": MAX_WORD_CHARS,
}  # fmt: skip
_SOURCE = {
    "severity": MAX_WORD_CHARS, "path": MAX_PATH_CHARS, "author": MAX_LINE_CHARS, "date": MAX_WORD_CHARS,
}  # fmt: skip
_STRINGS: Mapping[type, Mapping[str, int]] = {
    Technique: _EVENT | {"stix_id": MAX_ID_CHARS, "name": MAX_NAME_CHARS, "domain": MAX_WORD_CHARS},
    Template: _EVENT | _SOURCE | {
        "name": MAX_NAME_CHARS, "rule_type": MAX_WORD_CHARS, "rule_status": MAX_WORD_CHARS,
    },
    Entity: _EVENT | _SOURCE | {
        "kind": MAX_WORD_CHARS, "name": MAX_NAME_CHARS, "external_id": MAX_WORD_CHARS, "category": MAX_NAME_CHARS,
    },
    Report: _EVENT | {
        "document": MAX_ID_CHARS, "name": MAX_NAME_CHARS, "path": MAX_PATH_CHARS, "date": MAX_WORD_CHARS,
    },
    ReportSpan: {"kind": MAX_WORD_CHARS, "id": MAX_ID_CHARS, "name": MAX_NAME_CHARS},
    LogSource: dict.fromkeys(("category", "product", "service"), MAX_WORD_CHARS),
    Relationship: _EVENT | {"relation": MAX_WORD_CHARS, "domain": MAX_WORD_CHARS},
    NodeRef: {
        "id": MAX_ID_CHARS, "kind": MAX_WORD_CHARS, "name": MAX_NAME_CHARS, "external_id": MAX_WORD_CHARS,
    },
}  # fmt: skip
"""Type -> field -> characters, at most."""
_FAST = {kind: (attrgetter(*limits), tuple(limits.values())) for kind, limits in _STRINGS.items()}
"""The same, to check all strings of a record in one go."""
_ABOUT = dict.fromkeys(("tags", "techniques", "cves", "platforms"), (MAX_WORDS, MAX_WORD_CHARS)) | {
    "references": (MAX_WORDS, MAX_LINE_CHARS)
}
_LISTS: Mapping[type, Mapping[str, tuple[int, int]]] = {
    Technique: {"tactics": (MAX_TACTICS, MAX_WORD_CHARS), "platforms": (MAX_WORDS, MAX_WORD_CHARS)},
    Template: _ABOUT | {
        "false_positives": (MAX_WORDS, MAX_LINE_CHARS), "tactics": (MAX_TACTICS, MAX_WORD_CHARS),
    },
    Entity: _ABOUT | {"aliases": (MAX_WORDS, MAX_NAME_CHARS)},
    LogSource: {},
    Report: {},
    ReportSpan: {"tactics": (MAX_TACTICS, MAX_WORD_CHARS)},
    Relationship: {},
    NodeRef: {"tactics": (MAX_TACTICS, MAX_WORD_CHARS)},
}  # fmt: skip
"""Type -> field -> values, at most, and characters of each."""


def check_limits(event: Event) -> None:
    """Check the strings and lists of an event.

    Raises:
        BadRecord: `too-long` or `too-many`; the message names the field, its size and the limit.
    """
    _check(event)
    if isinstance(event, Relationship):
        check_node(event.source, "source.")
        check_node(event.target, "target.")
    if isinstance(event, Template):
        _check(event.log_source, "log_source.")
    if isinstance(event, Report):
        if len(event.spans) > MAX_WORDS:
            detail = (
                f"`spans` has {len(event.spans)} values; the limit is {MAX_WORDS}: divide the passage in the feed"
            )
            raise BadRecord("too-many", detail)
        for span in event.spans:
            _check(span, "spans.")


def check_node(node: NodeRef, where: str = "") -> None:
    """Check the strings and lists of one end of a relationship.

    Args:
        node: The end.
        where: Comes before the name of the field in the message.

    Raises:
        BadRecord: `too-long` or `too-many`.
    """
    _check(node, where)


def _check(record: msgspec.Struct, where: str = "") -> None:
    strings_of, limits = _FAST[type(record)]
    if any(map(gt, map(len, strings_of(record)), limits)):
        beyond = ((f, limit) for f, limit in _STRINGS[type(record)].items() if len(getattr(record, f)) > limit)
        field, limit = next(beyond)
        raise _too_long(where + field, getattr(record, field), limit)
    for field, (values, chars) in _LISTS[type(record)].items():
        found = getattr(record, field)
        if len(found) > values:
            raise BadRecord(
                "too-many",
                f"`{where}{field}` has {len(found)} values; the limit is {values}: shorten it in the feed",
            )
        for value in found:
            if len(value) > chars:
                raise _too_long(f"a value of `{where}{field}`", value, chars)


def _too_long(what: str, value: str, limit: int) -> BadRecord:
    name = what if " " in what else f"`{what}`"
    detail = (
        f"{name} has {len(value)} characters ({value[:40]!r} ...); the limit is {limit}: shorten it in the feed"
    )
    return BadRecord("too-long", detail)
