"""What became of an example: its history in the journal, and what each version did with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from schemas.errors import BadConfiguration
from schemas.journal import Example, held_out
from schemas.versions import Manifest
from trainers.store.journal_copy import JournalCopy, JournalReader
from transport.partition_log import PartitionLog

KINDS = ("technique", "node", "template", "relationship", "link")
"""What stands before an id in the keys of examples; see `streams.core.projections`."""

Placed = tuple[int, Example]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One record of an example in the journal; `what` is new, edited, relabelled, the same or retracted."""

    offset: int
    key: str
    what: str
    labels: tuple[str, ...]
    feed: str
    taxonomy: str
    event: str
    observed_ms: int


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """What a version did with one record of an example: `role` says it in words."""

    version: str
    promoted: bool
    offset: int
    key: str
    role: str


class ExampleStory(msgspec.Struct, frozen=True, kw_only=True):
    """The answer.

    Attributes:
        name: What was asked for.
        model: The model.
        entries: The records, in order.
        holdout: Whether it is held out, which never changes.
        labels: Its labels now; empty if it was retracted.
        retracted: Whether it no longer counts.
        uses: What versions did with it, oldest version first.
    """

    name: str
    model: str
    entries: tuple[Entry, ...]
    holdout: bool
    labels: tuple[str, ...]
    retracted: bool
    uses: tuple[Use, ...]


def index_of(model: str, journal: PartitionLog | None, trainer_dir: Path, folder: Path) -> JournalReader:
    """The copy of a journal in which examples are found by their key.

    Args:
        model: The model.
        journal: Its journal; None: the copy of the trainer on this machine, which may lack the latest records.
        trainer_dir: Folder of the trainers' copies.
        folder: Folder for a copy of this command's own, which is made on first use and brought up to date later.

    Raises:
        BadConfiguration: There is no copy, and no journal to make one from.
    """
    if journal is None:
        path = trainer_dir / f"{model}.sqlite"
        if not path.is_file():
            raise BadConfiguration(f"no trainer of {model} has run here ({path} is missing): name a --journal file")
        return JournalReader(path)
    copy = JournalCopy(folder / f"{model}.sqlite", journal)
    copy.catch_up()
    return copy


def example_story(model: str, name: str, copy: JournalReader, manifests: Iterable[Manifest]) -> ExampleStory:
    """What became of an example.

    Args:
        model: The model.
        name: Its key (`technique:T1059.001`), or an id in it (`T1059.001`).
        copy: A copy of the journal.
        manifests: The versions.

    Raises:
        BadConfiguration: The journal has no such example.
    """
    placed = _found(name, copy)
    if not placed:
        tried = name if ":" in name else ", ".join(f"{kind}:{name}" for kind in KINDS)
        lineage = copy.lineage()
        out = f"; {', '.join(lineage[1].exclusions)} was taken out by {lineage[1].by}" if lineage else ""
        raise BadConfiguration(
            f"the journal of {model} has no example {name!r} (looked for {tried}){out}: check the id, or choose "
            "another --model"
        )
    by_key: dict[str, list[Placed]] = {}
    for each in placed:
        by_key.setdefault(each[1].key, []).append(each)
    latest = by_key[placed[0][1].key][-1][1]
    uses = [use for manifest in manifests for own in by_key.values() for use in _uses(manifest, own)]
    return ExampleStory(
        name=name,
        model=model,
        entries=tuple(entry for own in by_key.values() for entry in _entries(own)),
        holdout=held_out(latest),
        labels=latest.labels,
        retracted=latest.retracted,
        uses=tuple(uses),
    )


def _found(name: str, copy: JournalReader) -> list[Placed]:
    """The records whose key or group is a name, or that of a kind with the name; the most direct ones first."""
    for kind in ("", *KINDS):
        full = f"{kind}:{name}" if kind else name
        found = copy.examples_of(full)
        if found:
            return sorted(found, key=lambda each: (each[1].key != full, each[1].key, each[0]))
    return []


def _entries(own: Sequence[Placed]) -> list[Entry]:
    befores = [None, *(example for _, example in own)]
    return [
        Entry(
            offset=offset,
            key=example.key,
            what=_what(before, example),
            labels=example.labels,
            feed=example.source.feed,
            taxonomy=example.taxonomy,
            event=f"{example.source.topic}/{example.source.partition}/{example.source.offset}",
            observed_ms=example.observed_ms,
        )
        for before, (offset, example) in zip(befores, own, strict=False)
    ]


def _what(before: Example | None, example: Example) -> str:
    if example.retracted:
        return "retracted"
    if before is None or before.retracted:
        return "new"
    if before.labels != example.labels:
        return "relabelled"
    return "edited" if before.hash != example.hash else "the same"


def _uses(manifest: Manifest, own: Sequence[Placed]) -> list[Use]:
    """What a version did with the records of one key."""
    ends = [*(offset for offset, _ in own[1:]), None]
    end = manifest.decided_at
    uses = []
    for (offset, example), superseded_at in zip(own, ends, strict=True):
        role = ""
        if offset in manifest.rehearsal:
            role = "rehearsed"
        elif any(span.start <= offset < span.end for span in manifest.spans):
            role = _role_in_window(example, superseded_at is not None and superseded_at < end, manifest)
        if role:
            uses.append(
                Use(version=manifest.version, promoted=manifest.promoted, offset=offset, key=example.key, role=role)
            )
    return uses


def _role_in_window(example: Example, superseded: bool, manifest: Manifest) -> str:
    if example.retracted:
        return "a retraction in its windows: nothing to learn"
    if held_out(example):
        return "in its windows, but held out: never trained on"
    if superseded:
        return "in its windows, but superseded by a later one before its turn"
    if manifest.examples_left_out:
        return f"in its windows: learnt as new, unless it is one of the {manifest.examples_left_out} left out"
    return "learnt as new"
