"""Mutated real files of every feed: whatever comes, it is an event, a dead letter or left out, and soon.

`make fuzz` tries 10,000 of each feed; the suite a few. Each is made from a seed, so that a failure can be made
again: its message names the feed, the file and the number.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from schemas.encoding import EncodedEvent
from schemas.errors import BadRecord
from streams.core.graph_rows import event_rows
from streams.fetchers.base.feed import FeedSpec, FeedState, Outcome, RejectedItem, no_progress, rejected_item
from streams.fetchers.feeds import registry
from streams.fetchers.sources.file_tree import FileTree, TreeFile, parse_files
from streams.fetchers.sources.folder import walk
from streams.fetchers.sources.resource import Resource
from tests.streams.fetchers.feeds.samples import SAMPLES, put
from tests.streams.fetchers.feeds.test_contract import REAL, SHARED

COUNT = int(os.environ.get("FUZZ_COUNT", "25"))
"""Mutated files of each feed."""
MAX_CPU_S = 5.0
"""Processor time for one file; it does not depend on what else the machine does."""
MAX_FILES, MAX_BYTES = 200, 60_000
FOLDERS = REAL | {"nuclei-templates": "nuclei-templates"}
PIECES = (
    b"null", b"true", b"[]", b"{}", b"-1", b"1e999", b"NaN", b"9" * 400, b'"\\ud800"', b'""', b'"x"', b"\xff\xfe",
    b"\x00", b"\r", b"\t", b": ", b"- ", b"---\n", b"&a [*a]", b"*b", b"!!python/object:os.system x", b"<<: *a",
    b"%TAG ! x\n", b"[" * 3_000, b'{"a":' * 3_000, b"'", b'"', b"{", b"}", b"T1059", b"CVE-2024-10001", b"0" * 20,
    b"2024-99-99", "\N{RIGHT-TO-LEFT OVERRIDE}".encode(), b"<!--", b"]]>", b"<!ENTITY a 'b'>",
)  # fmt: skip
TOKEN = re.compile(rb'"[^"\n]{0,200}"|\b[\w.-]{1,60}\b')


def corpus(name: str, tmp_path: Path) -> list[tuple[str, bytes]]:
    """(path, bytes) of files of a feed: its sample, and real ones where they are."""
    roots = [put(tmp_path / "sample", SAMPLES[name].files)]
    if name in FOLDERS and (SHARED / FOLDERS[name]).is_dir():
        roots.append(SHARED / FOLDERS[name])
    found = []
    collection: Any = registry.FEEDS[name].collection
    for root in roots:
        paths = [root / path for path in walk(root) if getattr(collection, "includes", lambda _: True)(path)]
        if isinstance(collection, Resource):
            paths = [collection.file_in(root)]
        chosen = random.Random(0).sample(paths, min(MAX_FILES, len(paths)))
        found += [(path.relative_to(root).as_posix(), path.read_bytes()) for path in chosen if path.is_file()]
    return [(path, data if len(data) <= MAX_BYTES else excerpt(data)) for path, data in found]


def excerpt(data: bytes) -> bytes:
    """A large document with the first items of its lists only; one that is no JSON as it is, up to a size."""
    try:
        return json.dumps(shortened(json.loads(data))).encode()
    except ValueError:
        return data[: data.rfind(b"\n", 0, MAX_BYTES) + 1]


def shortened(value: Any, most: int = 20) -> Any:
    if isinstance(value, dict):
        return {key: shortened(inner, most) for key, inner in list(value.items())[: 5 * most]}
    return [shortened(inner, most) for inner in value[:most]] if isinstance(value, list) else value


def mutated(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """A file after one to four mutations."""
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(data) + 1)
        end = min(len(data), start + int(chance.expovariate(1 / 20)))
        piece = chance.choice(PIECES)
        tokens = [found.span() for found in TOKEN.finditer(data, max(0, start - 500), start + 500)]
        kind = chance.randrange(8)
        if kind == 0:
            data = data[:start]
        elif kind == 1:
            data = data[:start] + data[end:]
        elif kind == 2:
            data = data[:start] + piece + data[end:]
        elif kind == 3:
            data = data[:end] + data[start:end] * chance.randint(1, 50) + data[end:]
        elif kind == 4 and data:
            place = chance.randrange(len(data))
            data = data[:place] + bytes((chance.randrange(256),)) + data[place + 1 :]
        elif kind == 5:
            data = data[:start] + other[chance.randrange(len(other) + 1) :]
        elif tokens:
            first, last = chance.choice(tokens)
            data = data[:first] + piece + data[last:]
    return data


def outcomes_of(spec: FeedSpec, path: str, data: bytes, folder: Path) -> Sequence[Outcome]:
    """What a file becomes in the feed."""
    collection = spec.collection
    if isinstance(collection, FileTree):
        file = TreeFile(path, "oid", lambda: data)
        return parse_files([file], {}, collection.parse, spec.name).outcomes
    if isinstance(collection, Resource):
        try:
            return collection.parse(data, path.rpartition("/")[2], spec.name).outcomes
        except BadRecord as error:
            return [rejected_item(f"{spec.name}:{path}", error, data)]
    (folder / path).write_bytes(data)
    return spec.read(str(folder), FeedState(), folder, no_progress).outcomes or ()


@contextlib.contextmanager
def limited_cpu() -> Iterator[None]:
    """Raise in the block once it has used too much processor time."""

    def too_long(*_: object) -> None:
        raise TimeoutError(f"over {MAX_CPU_S} s of processor time")

    previous = signal.signal(signal.SIGVTALRM, too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, MAX_CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_mutated_file_is_an_event_a_dead_letter_or_left_out(name: str, tmp_path: Path) -> None:
    spec, files = registry.FEEDS[name], corpus(name, tmp_path)
    assert files
    folder = put(tmp_path / "fuzz", SAMPLES[name].files)
    for number in range(COUNT):
        chance = random.Random(f"{name} {number}")
        path, data = chance.choice(files)
        _, other = chance.choice(files)
        data = mutated(data, other, chance)
        if not isinstance(spec.collection, FileTree | Resource):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
        try:
            with limited_cpu():
                found = outcomes_of(spec, path, data, folder)
                for each in found:
                    if isinstance(each, EncodedEvent):
                        event_rows(each.event, 0)
        except Exception as error:
            (tmp_path / "failed").write_bytes(data)
            raise AssertionError(f"{name}, {path}, number {number}: {type(error).__name__}: {error}") from error
        unforeseen = [
            each for each in found if isinstance(each, RejectedItem) and each.error.reason == "not-foreseen"
        ]
        assert not unforeseen, f"{name}, {path}, number {number}: {unforeseen[0].error.detail}"
