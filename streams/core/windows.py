"""The open window: the examples since the latest window closed, and when it closes itself."""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from schemas.journal import Example
from schemas.policy import Policy
from schemas.windows import ClosedBy, Window
from streams.core.label_counts import add_labels


class OpenWindow(msgspec.Struct):
    """Counts of the window that begins at the journal offset `start`.

    The fields are those of `schemas.windows.Window`. `opened_ms` is 0 before the first tick.
    """

    start: int = 0
    opened_ms: int = 0
    examples: int = 0
    holdout: int = 0
    retracted: int = 0
    labels: dict[str, int] = {}
    digest: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether it holds no example and no retraction."""
        return not (self.examples or self.holdout or self.retracted)

    def add(self, example: Example, labels: tuple[str, ...], *, holdout: bool) -> None:
        """Count an example and chain its key and content hash into the digest.

        Args:
            example: An example or a retraction.
            labels: Those of its labels that are counted.
            holdout: Whether it is in the holdout, whose labels are not counted.
        """
        chained = f"{self.digest}|{example.key}|{example.hash}".encode()
        self.digest = blake2b(chained, digest_size=16).hexdigest()
        if example.retracted:
            self.retracted += 1
        elif holdout:
            self.holdout += 1
        else:
            self.examples += 1
            add_labels(self.labels, labels, 1)


def due_to_close(window: OpenWindow, policy: Policy, now_ms: int) -> ClosedBy | None:
    """Why the window has to close now.

    Args:
        window: The open window.
        policy: Gives the number of examples and the age at which it closes.
        now_ms: Time of the latest tick, in ms since 1970 UTC.

    Returns:
        `volume`, `age`, or None if it stays open. An empty window stays open.
    """
    if window.is_empty:
        return None
    if window.examples >= policy.window_examples:
        return "volume"
    if now_ms - window.opened_ms >= policy.window_age_s * 1000:
        return "age"
    return None


def close_window(window: OpenWindow, model: str, end: int, now_ms: int, closed_by: ClosedBy) -> Window:
    """The open window as a closed one.

    Args:
        window: The open window.
        model: The model whose journal it is part of.
        end: Journal offset after the last record of the window.
        now_ms: Time of the latest tick, in ms since 1970 UTC.
        closed_by: Why it closes.
    """
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
