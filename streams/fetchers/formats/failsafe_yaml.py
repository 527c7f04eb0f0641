"""Untrusted YAML as strings, lists and mappings, with limits on depth, nodes and aliases.

Built from libyaml's events, one pass, so that nothing is there before it is counted: no tag is looked at, no
merge key expanded, and an alias is a second reference to the same value. Every scalar is the string that
the file wrote, except that a plain `null`, `~` or nothing is None (YAML's failsafe schema, with null).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from schemas.errors import BadRecord
from streams.fetchers.base import limits

Value = str | None | list[Any] | dict[str, Any]

_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_NULL_CHARS = max(map(len, _NULLS))
_OTHER_ENCODINGS = (b"\xff\xfe", b"\xfe\xff")
_NO_KEY = object()


def documents(data: bytes) -> Iterator[Value]:
    """The documents of a YAML file, each yielded when it has been read whole.

    >>> list(documents(b"id: 7\\nseverity: null\\n--- \\n[a, b]"))
    [{'id': '7', 'severity': None}, ['a', 'b']]

    Raises:
        BadRecord: `bad-yaml`: not YAML, not UTF-8, or beyond a budget of `streams.fetchers.base.limits`.
    """
    _check_text(data)
    try:
        yield from _Builder().values(iter(yaml.CSafeLoader(data).get_event, None))
    except yaml.YAMLError as error:
        raise BadRecord("bad-yaml", " ".join(str(error).split())) from error


def _check_text(data: bytes) -> None:
    if data.startswith(_OTHER_ENCODINGS):
        raise BadRecord("bad-yaml", "UTF-16; only UTF-8 is read")
    directives = data.count(b"%TAG")
    if directives > limits.MAX_YAML_DIRECTIVES:
        raise BadRecord("bad-yaml", f"{directives} tag directives; the limit is {limits.MAX_YAML_DIRECTIVES}")


class _Builder:
    """Values from events, one at a time.

    `parent` is the innermost open collection, `key` the key in it that waits for its value, and `outer` has the
    collections around it with theirs. The outermost is a list of the one value of the document.
    """

    def __init__(self) -> None:
        self.nodes = self.chars = self.aliases = 0
        self.parent: Any = []
        self.key: Any = _NO_KEY
        self.outer: list[tuple[Any, Any]] = []
        self.anchors: dict[str, Value] = {}

    def values(self, events: Iterator[Any]) -> Iterator[Value]:
        """The values of the documents, each when its end comes."""
        for event in events:
            kind = type(event)
            if kind is yaml.ScalarEvent:
                value = event.value
                self.chars += len(value)
                if len(value) <= _NULL_CHARS and value in _NULLS and event.implicit[0]:
                    value = None
                self.put(value, event.anchor)
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                self.parent, self.key = self.outer.pop()
            elif kind is yaml.MappingStartEvent:
                self.enter({}, event.anchor)
            elif kind is yaml.SequenceStartEvent:
                self.enter([], event.anchor)
            elif kind is yaml.AliasEvent:
                self.put_alias(event.anchor)
            elif kind is yaml.DocumentEndEvent:
                yield self.parent.pop()
                self.anchors.clear()

    def put(self, value: Value, anchor: str | None = None) -> None:
        self.nodes += 1
        if self.nodes > limits.MAX_YAML_NODES or self.chars > limits.MAX_YAML_CHARS:
            raise self.too_much()
        if anchor is not None:
            self.anchors[anchor] = value
        if self.key is not _NO_KEY:
            self.parent[self.key] = value
            self.key = _NO_KEY
        elif type(self.parent) is list:
            self.parent.append(value)
        elif isinstance(value, list | dict):
            raise BadRecord("bad-yaml", "the key of a mapping is a collection")
        else:
            self.key = value or ""

    def enter(self, collection: list[Any] | dict[str, Any], anchor: str | None) -> None:
        self.put(collection, anchor)
        self.outer.append((self.parent, self.key))
        self.parent, self.key = collection, _NO_KEY
        if len(self.outer) > limits.MAX_YAML_DEPTH:
            raise _beyond(limits.MAX_YAML_DEPTH, "levels of nesting")

    def put_alias(self, anchor: str) -> None:
        self.aliases += 1
        if self.aliases > limits.MAX_YAML_ALIASES:
            raise _beyond(limits.MAX_YAML_ALIASES, "aliases")
        if anchor not in self.anchors:
            raise BadRecord("bad-yaml", f"alias *{anchor} of nothing")
        value = self.anchors[anchor]
        self.count_contents(value)
        self.put(value)

    def count_contents(self, value: Value) -> None:
        """Count what is in a value that is referred to again: whoever reads it goes over all of that."""
        waiting: list[Value] = [value]
        self.nodes -= 1  # the value itself is counted where it is put
        while waiting:
            one = waiting.pop()
            self.nodes += 1
            self.chars += len(one) if isinstance(one, str) else 0
            if self.nodes > limits.MAX_YAML_NODES or self.chars > limits.MAX_YAML_CHARS:
                raise self.too_much()
            if isinstance(one, list):
                waiting += one
            elif isinstance(one, dict):
                waiting += (*one, *one.values())

    def too_much(self) -> BadRecord:
        if self.nodes > limits.MAX_YAML_NODES:
            return _beyond(limits.MAX_YAML_NODES, "nodes, with those behind each alias")
        return _beyond(limits.MAX_YAML_CHARS, "characters, with those behind each alias")


def _beyond(limit: int, what: str) -> BadRecord:
    return BadRecord("bad-yaml", f"more than {limit} {what}")
