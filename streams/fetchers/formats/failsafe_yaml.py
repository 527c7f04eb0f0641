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
    builder = _Builder()
    try:
        for event in yaml.parse(data, Loader=yaml.CSafeLoader):
            if type(event) is yaml.DocumentEndEvent:
                yield builder.root
                builder.start_document()
            else:
                builder.take(event)
    except yaml.YAMLError as error:
        raise BadRecord("bad-yaml", " ".join(str(error).split())) from error


def _check_text(data: bytes) -> None:
    if data.startswith(_OTHER_ENCODINGS):
        raise BadRecord("bad-yaml", "UTF-16; only UTF-8 is read")
    directives = data.count(b"%TAG")
    if directives > limits.MAX_YAML_DIRECTIVES:
        raise BadRecord("bad-yaml", f"{directives} tag directives; the limit is {limits.MAX_YAML_DIRECTIVES}")


class _Builder:
    """Values from events: the stack holds what is open, and for each mapping the key that waits for its value."""

    def __init__(self) -> None:
        self.nodes = self.chars = self.aliases = 0
        self.start_document()

    def start_document(self) -> None:
        self.root: Value = None
        self.open: list[Any] = []
        self.keys: list[Any] = []
        self.anchors: dict[str, Value] = {}

    def take(self, event: Any) -> None:
        kind = type(event)
        if kind is yaml.ScalarEvent:
            plain = event.implicit[0] and event.value in _NULLS
            self.put(None if plain else event.value, event.anchor)
        elif kind is yaml.SequenceStartEvent:
            self.enter([], event.anchor)
        elif kind is yaml.MappingStartEvent:
            self.enter({}, event.anchor)
        elif kind is yaml.SequenceEndEvent or kind is yaml.MappingEndEvent:
            self.open.pop()
            self.keys.pop()
        elif kind is yaml.AliasEvent:
            self.put_alias(event.anchor)

    def put(self, value: Value, anchor: str | None = None) -> None:
        self.count(value)
        if anchor is not None:
            self.anchors[anchor] = value
        if not self.open:
            self.root = value
            return
        parent = self.open[-1]
        if type(parent) is list:
            parent.append(value)
        else:
            self.put_in_mapping(parent, value)

    def put_in_mapping(self, parent: dict[str, Any], value: Value) -> None:
        key = self.keys[-1]
        if key is not _NO_KEY:
            parent[key] = value
            self.keys[-1] = _NO_KEY
        elif isinstance(value, list | dict):
            raise BadRecord("bad-yaml", "the key of a mapping is a collection")
        else:
            self.keys[-1] = value or ""

    def enter(self, collection: list[Any] | dict[str, Any], anchor: str | None) -> None:
        self.put(collection, anchor)
        self.open.append(collection)
        self.keys.append(_NO_KEY)
        if len(self.open) > limits.MAX_YAML_DEPTH:
            raise _beyond(limits.MAX_YAML_DEPTH, "levels of nesting")

    def put_alias(self, anchor: str) -> None:
        self.aliases += 1
        if self.aliases > limits.MAX_YAML_ALIASES:
            raise _beyond(limits.MAX_YAML_ALIASES, "aliases")
        if anchor not in self.anchors:
            raise BadRecord("bad-yaml", f"alias *{anchor} of nothing")
        self.put(self.anchors[anchor])

    def count(self, value: Value) -> None:
        """Count what is in a value, and in what it refers to: whoever reads it goes over all of that."""
        waiting: list[Value] = [value]
        while waiting:
            one = waiting.pop()
            self.nodes += 1
            self.chars += len(one) if isinstance(one, str) else 0
            if self.nodes > limits.MAX_YAML_NODES:
                raise _beyond(limits.MAX_YAML_NODES, "nodes, with those behind each alias")
            if self.chars > limits.MAX_YAML_CHARS:
                raise _beyond(limits.MAX_YAML_CHARS, "characters, with those behind each alias")
            if isinstance(one, list):
                waiting += one
            elif isinstance(one, dict):
                waiting += (*one, *one.values())


def _beyond(limit: int, what: str) -> BadRecord:
    return BadRecord("bad-yaml", f"more than {limit} {what}")
