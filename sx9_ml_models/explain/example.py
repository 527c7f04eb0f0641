"""What became of an example: its history in the journal, and what each version did with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from schemas.errors import BadConfiguration
from schemas.journal import Example, LineageChange, held_out
from schemas.versions import Manifest
from sx9_ml_models.explain.placed import Placed

KINDS = ("technique", "node", "template", "relationship", "link")
"""What stands before an id in the keys of examples; see `streams.core.projections`."""


class SearchableJournal(Protocol):
    """A journal in which examples are found by their names."""

    def examples_of(self, name: str) -> list[Placed]:
        """The examples with a key or a group, including retractions, in order, without what is left out."""

    def lineages(self) -> list[tuple[int, LineageChange]]:
        """All lineage changes with their journal offsets, in order."""


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


def example_story(model: str, name: str, journal: SearchableJournal, manifests: Iterable[Manifest]) -> ExampleStory:
    """What became of an example.

    Args:
        model: The model.
        name: Its key (`technique:T1059.001`), or an id in it (`T1059.001`).
        journal: Its journal.
        manifests: The versions.

    Raises:
        BadConfiguration: The journal has no such example.
    """
    placed = _found(name, journal)
    if not placed:
        tried = name if ":" in name else ", ".join(f"{kind}:{name}" for kind in KINDS)
        lineages = journal.lineages()
        gone = lineages[-1][1].exclusions if lineages else ()
        out = f"; {', '.join(gone)} was taken out by {lineages[-1][1].by}" if gone else ""
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


def _found(name: str, journal: SearchableJournal) -> list[Placed]:
    """The records whose key or group is a name, or that of a kind with the name; the most direct ones first."""
    for kind in ("", *KINDS):
        full = f"{kind}:{name}" if kind else name
        found = journal.examples_of(full)
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
