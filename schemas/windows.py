"""Windows and triggers: what the fold over a journal says.

A window is a half-open range `[start, end)` of journal offsets whose examples are trained together; the
windows of a model lie end to end. A trigger is the decision to retrain, complete: with it, the topics and
the configuration a version can be built, now or in five years.
"""

from __future__ import annotations

from typing import Literal

import msgspec

ClosedBy = Literal["volume", "age", "manual", "trigger"]
Reason = Literal["volume", "drift", "taxonomy", "staleness", "manual"]


class Window(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A closed window.

    Attributes:
        model: Whose journal.
        start, end: Half-open range of journal offsets.
        closed_by: Why it closed.
        opened_ms, closed_ms: Tick times, 0 before the first tick.
        examples, holdout, retracted: How many records of each kind it holds, second deliveries not counted.
        labels: Label -> count over its training examples.
        digest: Chained BLAKE2b of its examples' keys and hashes, in order.
    """

    model: str
    start: int
    end: int
    closed_by: ClosedBy
    opened_ms: int = 0
    closed_ms: int = 0
    examples: int = 0
    holdout: int = 0
    retracted: int = 0
    labels: dict[str, int] = {}
    digest: str = ""

    @property
    def id(self) -> str:
        """`model:start-end`; the same window always has the same id."""
        return f"{self.model}:{self.start}-{self.end}"


class Measure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rule, its number and its limit at the moment of a decision; `tripped` says which way it went."""

    rule: str
    value: float
    limit: float
    tripped: bool
    detail: str = ""


class Span(msgspec.Struct, frozen=True):
    """A window as a trigger names it."""

    start: int
    end: int
    examples: int
    digest: str


class Trigger(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The decision to retrain.

    Attributes:
        model: Which model.
        number: 1, 2, ... per model; the version it leads to is `v<number>`.
        offset: Journal offset of the record that tripped it.
        reason: The rule that tripped; `measures` holds the numbers of all rules.
        at_ms: Tick time of the decision.
        parent: The champion to start from, empty for the first version.
        spans: The windows to train on, end to end, oldest first.
        rehearsal: Journal offsets of older training examples to mix in, none superseded.
        holdout_old, holdout_recent: Journal offsets to judge on: from before the first span, and from within.
        labels: Labels known after this trigger, sorted.
        seed: Of the training run.
    """

    model: str
    number: int
    offset: int
    reason: Reason
    at_ms: int
    parent: str = ""
    spans: tuple[Span, ...] = ()
    rehearsal: tuple[int, ...] = ()
    holdout_old: tuple[int, ...] = ()
    holdout_recent: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = ()
    seed: int = 0

    @property
    def id(self) -> str:
        """`model@offset`: at most one trigger is decided per journal record."""
        return f"{self.model}@{self.offset}"

    @property
    def version(self) -> str:
        """Name of the version that answers this trigger: `v0001`, `v0002`, ..."""
        return f"v{self.number:04d}"

    @property
    def examples(self) -> int:
        """Training examples in its windows."""
        return sum(span.examples for span in self.spans)


class Declined(msgspec.Struct, frozen=True, kw_only=True):
    """A decision not to retrain, with the numbers; recomputed from the journal when somebody asks."""

    model: str
    offset: int
    at_ms: int
    why: str
    measures: tuple[Measure, ...] = ()
