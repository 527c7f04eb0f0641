"""What each process may do on a Kafka with access control: the table that `sx9 acls` prints. Pure.

    role ──> principal, operation, resource      least of each: a fetcher can't write journals, a trainer no events

Every process looks at all topics when it starts, so each may describe them; one that finds a topic missing makes
it, which only `set-up` may. Run any command once as `set-up`, or make the topics yourself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from schemas.topics import DEAD_LETTERS, EVENT_TOPICS, JOURNAL, REPORTS, TOPICS, TRIGGERS, VERSIONS, WINDOWS, Topic

Resource = Literal["topic", "group", "cluster"]
Pattern = Literal["literal", "prefixed"]


class Acl(msgspec.Struct, frozen=True):
    """One line of the table; all of them allow.

    Attributes:
        principal: Who, `User:sx9-fetch`.
        operation: In the words of Kafka: `Read`, `Write`, `Describe`, `DescribeConfigs`, `Create`.
        resource: What kind of thing.
        pattern: Whether `name` is its name, or the beginning of it.
        name: Of the thing.
    """

    principal: str
    operation: str
    resource: Resource
    pattern: Pattern
    name: str


class _Role(msgspec.Struct, frozen=True):
    reads: Sequence[Topic] = ()
    writes: Sequence[Topic] = ()
    groups: Sequence[str] = ()


CLASSIFY = "classify"
_ROLES = {
    "fetch": _Role((*EVENT_TOPICS, DEAD_LETTERS), (*EVENT_TOPICS, DEAD_LETTERS)),
    "journal": _Role((*EVENT_TOPICS, JOURNAL), (JOURNAL, DEAD_LETTERS), ("sx9-journal",)),
    "graph": _Role((*EVENT_TOPICS, VERSIONS), (DEAD_LETTERS,), ("sx9-graph",)),
    "fold": _Role((JOURNAL, WINDOWS, TRIGGERS), (JOURNAL, WINDOWS, TRIGGERS, DEAD_LETTERS), ("sx9-fold",)),
    "train": _Role((JOURNAL, TRIGGERS, VERSIONS), (JOURNAL, VERSIONS), ("sx9-trainer-",)),
    "archive": _Role(TOPICS),
    "read": _Role(TOPICS),
    "operate": _Role(TOPICS, (JOURNAL, VERSIONS)),
    "serve": _Role(TOPICS, (REPORTS, JOURNAL, VERSIONS)),
    CLASSIFY: _Role((VERSIONS,), (), ("sx9-classify",)),
}
"""Role -> what it reads and writes. `read` is for `sx9 status` and other commands that change nothing, `operate`
for `sx9 retrain`, `sx9 models promote | rollback`, `sx9 rebuild --promote` and `sx9 quarantine`. The server writes
feedback, and with a key of an operator what `operate` writes."""
_READ_GROUPS = frozenset(("read", "operate", "serve"))
SET_UP = "set-up"
ROLES = (*_ROLES, SET_UP)


def acls_of(role: str, texts: str = "", answers: str = "") -> Iterator[Acl]:
    """The lines of a role of `ROLES`.

    Args:
        role: The role.
        texts, answers: The topics of `classify`, which are yours; empty: it has none.
    """
    principal = f"User:sx9-{role}"
    for topic in TOPICS:
        for operation in ("Describe", "DescribeConfigs"):
            yield Acl(principal, operation, "topic", "literal", topic.name)
    if role == SET_UP:
        yield from (Acl(principal, "Create", "topic", "literal", topic.name) for topic in TOPICS)
        return
    found = _ROLES[role]
    reads, writes = [topic.name for topic in found.reads], [topic.name for topic in found.writes]
    if role == CLASSIFY:
        reads, writes = [*reads, *filter(None, [texts])], [*writes, *filter(None, [answers])]
    yield from (Acl(principal, "Read", "topic", "literal", name) for name in reads)
    yield from (Acl(principal, "Write", "topic", "literal", name) for name in writes)
    for group in found.groups:
        pattern: Pattern = "prefixed" if group.endswith("-") else "literal"
        yield from (Acl(principal, each, "group", pattern, group) for each in ("Read", "Describe"))
    if role in _READ_GROUPS:
        yield Acl(principal, "Describe", "group", "prefixed", "sx9-")


def all_acls(texts: str = "", answers: str = "") -> list[Acl]:
    """The whole table; see `acls_of`."""
    return [each for role in ROLES for each in acls_of(role, texts, answers)]
