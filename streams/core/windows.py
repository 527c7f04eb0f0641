"""The open window: what has come since the last one closed, and when it closes."""

from __future__ import annotations

import hashlib

import msgspec

from schemas.journal import Example
from schemas.policy import Policy
from schemas.windows import ClosedBy, Window


class OpenWindow(msgspec.Struct):
    """Counts of the window that begins at offset `start`; see `schemas.windows.Window` for the fields."""

    start: int = 0
    opened_ms: int = 0
    examples: int = 0
    holdout: int = 0
    retracted: int = 0
    labels: dict[str, int] = {}
    digest: str = ""

    @property
    def empty(self) -> bool:
        """Nothing in it that a training run would notice."""
        return not (self.examples or self.holdout or self.retracted)

    def add(self, example: Example, *, holdout: bool) -> None:
        """Count one example and chain it into the digest."""
        link = f"{self.digest}|{example.key}|{example.hash}".encode()
        self.digest = hashlib.blake2b(link, digest_size=16).hexdigest()
        if example.retracted:
            self.retracted += 1
        elif holdout:
            self.holdout += 1
        else:
            self.examples += 1
            count(self.labels, example.labels, 1)


def due(window: OpenWindow, policy: Policy, now_ms: int) -> ClosedBy | None:
    """Whether the rules close the window now, and which of them; an empty window stays open."""
    if window.empty:
        return None
    if window.examples >= policy.window_examples:
        return "volume"
    if now_ms - window.opened_ms >= policy.window_age_s * 1000:
        return "age"
    return None


def close(window: OpenWindow, model: str, end: int, now_ms: int, closed_by: ClosedBy) -> Window:
    """The open window as a closed one, ending before offset `end`."""
    return Window(
        model=model,
        start=window.start,
        end=end,
        closed_by=closed_by,
        opened_ms=window.opened_ms,
        closed_ms=now_ms,
        examples=window.examples,
        holdout=window.holdout,
        retracted=window.retracted,
        labels=dict(sorted(window.labels.items())),
        digest=window.digest,
    )


def count(counts: dict[str, int], labels: tuple[str, ...], by: int) -> None:
    """Add `by` to the count of each label, and forget labels that reach zero."""
    for label in labels:
        total = counts.get(label, 0) + by
        if total:
            counts[label] = total
        else:
            counts.pop(label, None)
