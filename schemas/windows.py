"""Windows and triggers: the results of the fold over a journal.

A window is a half-open range `[start, end)` of journal offsets whose examples are trained together; the
windows of a model are consecutive. A trigger is a complete decision to retrain: the trigger, the topics and the
configuration are enough to build the version, now or in five years.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from schemas.policy import GateLimits

ClosedBy = Literal["volume", "age", "manual", "trigger"]
Reason = Literal[
    "volume", "drift", "input_drift", "performance_drift", "taxonomy", "staleness", "manual", "backlog",
    "corrections",
]  # fmt: skip


class Window(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A closed window.

    Attributes:
        model: Name of the model.
        start, end: Half-open range of journal offsets.
        closed_by: Reason for closing.
        opened_ms, closed_ms: Tick times, 0 before the first tick.
        examples, holdout, retracted: Number of records of each kind, without redeliveries.
        labels: Label -> number of training examples.
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
    """The value and the limit of one rule at the time of a decision; `tripped` says whether the rule fired."""

    rule: str
    value: float
    limit: float
    tripped: bool
    detail: str = ""


class Span(msgspec.Struct, frozen=True):
    """The part of a window that a trigger records."""

    start: int
    end: int
    examples: int
    digest: str


def version_name(number: int) -> str:
    """The name of the version that results from the trigger of that number.

    >>> version_name(7)
    'v0007'
    """
    return f"v{number:04d}"


class Trigger(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A decision to retrain.

    Attributes:
        model: Name of the model.
        number: 1, 2, ... per model; the resulting version is `v<number>`.
        offset: Journal offset of the record that tripped it.
        reason: The rule that fired; `measures` holds the values of all rules.
        at_ms: Tick time of the decision.
        parent: The champion to start from, empty for the first version.
        spans: The consecutive windows to train on, oldest first.
        rehearsal: Journal offsets of older training examples to add; none of them is superseded.
        holdout_old, holdout_recent: Journal offsets of the holdout: from before the first span, and since then.
        labels: Labels known after this trigger, sorted.
        seed: Seed of the training run.
        gate: The tolerances of the gate; None in older records: the defaults.
        recipe: The section `recipe` of the policy.
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
    gate: GateLimits | None = None
    recipe: dict[str, Any] = {}

    @property
    def id(self) -> str:
        """`model@offset`: at most one trigger is decided per journal record."""
        return f"{self.model}@{self.offset}"

    @property
    def version(self) -> str:
        """Name of the version that results from this trigger: `v0001`, `v0002`, ..."""
        return version_name(self.number)

    @property
    def examples(self) -> int:
        """Number of training examples in its windows."""
        return sum(span.examples for span in self.spans)


class Declined(msgspec.Struct, frozen=True, kw_only=True):
    """A decision not to retrain, with the measured values; not stored, but computed from the journal on request."""

    model: str
    offset: int
    at_ms: int
    why: str
    measures: tuple[Measure, ...] = ()
