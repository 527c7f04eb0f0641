"""The indexes of a folder of threat content: what is known, what covers it, and a summary."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from schemas.events import Event
from streams.content.crosswalk import Crosswalk
from streams.content.current import current
from streams.content.inventories import exploitdb_index, kali_tools_inventory
from streams.content.source_names import INDEXES, source_name
from streams.fetchers.base.cursor import Cursor
from streams.fetchers.base.feed_folder import EVENTS, STATE
from transport.files import write_atomically

FETCHED_AT = "fetched_at"


def write_indexes(content: Path, events: Iterable[Event]) -> dict[str, int]:
    """Write the indexes of some events. With the same content they are the same bytes.

    Args:
        content: The folder of threat content.
        events: What is in it.

    Returns:
        What there is -> how much of it.
    """
    read = list(events)
    crosswalk = Crosswalk(read)
    entities = current(read).entities.values()
    mitre, covered = crosswalk.mitre_index(), crosswalk.crosswalk_index()
    sizes = {name: len(entries) for name, entries in covered.items()}
    summary: dict[str, Any] = {
        "counts": {source_name(feed): count for feed, count in crosswalk.counts().items()},
        "crosswalk_counts": sizes,
        "releases": _releases(content),
        "events_digest": _digest(content),
    }
    summary = {FETCHED_AT: _fetched_at(content / INDEXES[2], summary)} | summary
    inventories = kali_tools_inventory(entities), exploitdb_index(entities)
    for name, document in zip(INDEXES, (mitre, covered, summary, *inventories), strict=True):
        write_atomically(content / name, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    return {"techniques": len(mitre["techniques"]), "groups": len(mitre["groups"])} | sizes


def _releases(content: Path) -> dict[str, str]:
    """Source -> the release or commit that was read last, for those that have one."""
    found = {}
    for path in sorted((content / STATE).glob("*.json")):
        cursor = msgspec.json.decode(path.read_bytes(), type=Cursor)
        if cursor.state.release:
            found[source_name(cursor.feed)] = cursor.state.release
    return found


def _digest(content: Path) -> str:
    """32 hex digits that change with any event in the folder."""
    state = hashlib.blake2b(digest_size=16)
    for path in sorted((content / EVENTS).rglob("*.jsonl")):
        state.update(path.relative_to(content).as_posix().encode() + b"\0" + path.read_bytes())
    return state.hexdigest()


def _fetched_at(path: Path, summary: dict[str, Any]) -> str:
    """When the content was fetched as it is: now, or what the summary said before if nothing has changed since."""
    try:
        before = json.loads(path.read_bytes())
    except (OSError, ValueError):
        before = None
    if isinstance(before, dict) and isinstance(told := before.pop(FETCHED_AT, None), str) and before == summary:
        return told
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
