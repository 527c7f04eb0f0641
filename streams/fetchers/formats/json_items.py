"""A JSON document with many items: each becomes an event, or a rejected item of its own.

bytes ──decode──> document ──items──> event of each ──┬──> events by id
                                                      └──> rejected items
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from schemas.encoding import EncodedEvent, encode_event
from schemas.errors import BadRecord
from schemas.events import Event
from streams.fetchers.base import limits
from streams.fetchers.base.feed import Outcome, rejected_item
from streams.fetchers.formats import fields
from streams.fetchers.formats.fields import Fields, as_mapping
from streams.fetchers.sources.resource import ParsedResource

MODULES = (__name__, *fields.MODULES)
"""What a feed that reads JSON names in its `modules`."""

ItemKey = Callable[[Fields], str]
"""The id of the event of an item; raises `BadRecord` if it has none."""
ItemEvents = Callable[[Fields], Event | Iterable[Event]]
"""The events of an item; raises `BadRecord` if it can't be used."""


def decode_document(data: bytes) -> Any:
    """A JSON document. A byte order mark before it, as some programs write it, is passed over.

    Raises:
        BadRecord: `bad-json`: not JSON, cut off, or nested too deep.
    """
    try:
        return msgspec.json.decode(data.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecord("bad-json", f"{error} ({len(data)} bytes)") from error


def items_at(document: Any, *keys: str) -> list[Any]:
    """The list at a path of keys.

    Raises:
        BadRecord: `wrong-form`: there is no list; `too-many`: it is longer than `limits.MAX_ITEMS`.
    """
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    where = ".".join(keys) or "the document"
    if not isinstance(document, list):
        raise BadRecord("wrong-form", f"{where} is a {type(document).__name__}, not a list: check the source")
    if len(document) > limits.MAX_ITEMS:
        raise BadRecord("too-many", f"{where} has {len(document)} items; the limit is {limits.MAX_ITEMS}")
    return document


def parsed_items(
    feed: str,
    release: str,
    items: Iterable[Any],
    key_of: ItemKey,
    events_of: ItemEvents,
    *,
    is_complete: bool = False,
) -> ParsedResource:
    """The events of items, by id, and the items that can't be used.

    Args:
        feed: Name of the feed.
        release: Of the document.
        items: Of the document; of several events with one id the first counts.
        key_of: The id by which an item that can't be used is known.
        events_of: The events of an item.
        is_complete: Whether the items are all that there is of the feed. An item without an id may be any of those
            that are missing, so that nothing is taken to be gone.
    """
    events: dict[str, EncodedEvent] = {}
    rejected: list[Outcome] = []
    for position, item in enumerate(items):
        name = f"item-{position}"
        try:
            found = as_mapping(item, f"item {position}")
            name = key_of(found)
            made = events_of(found)
            encoded = [encode_event(each) for each in ((made,) if isinstance(made, msgspec.Struct) else made)]
            if repeated := [each.event.id for each in encoded if each.event.id in events]:
                raise BadRecord("duplicate-id", f"item {position}: there is an item with {repeated[0]} before it")
            events.update((each.event.id, each) for each in encoded)
        except BadRecord as error:
            is_complete = is_complete and name != f"item-{position}"
            rejected.append(rejected_item(f"{feed}:{name}", error, msgspec.json.encode(item)))
    return ParsedResource(release, [*rejected, *(events[key] for key in sorted(events))], is_complete=is_complete)
