"""The state of the fold, and its snapshot: what the fold knows after each record of a journal.

The size of the state is bounded: it does not grow with the journal.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.errors import Corrupt
from schemas.journal import SeenOffsets
from schemas.models import model_spec
from schemas.policy import Policy
from schemas.windows import Span, Trigger
from streams.core.bounds import PendingSpan
from streams.core.detectors.corrections import Corrections
from streams.core.detectors.label_drift import LabelDrift
from streams.core.detectors.label_window import LabelWindow
from streams.core.prequential import Prequential, new_prequential
from streams.core.quarantine import Quarantine
from streams.core.sampling import BottomK, StratifiedBottomK
from streams.core.windows import OpenWindow


class State(msgspec.Struct, kw_only=True):
    """What the fold knows after all records before `next_offset`. Times are in ms since 1970 UTC.

    Attributes:
        model: The model whose journal is folded.
        next_offset: The next journal offset to fold; records before it are skipped.
        now_ms: The time, from the ticks; 0 before the first.
        behind_ms: The latest tick, if it was far behind `now_ms`; otherwise 0. See `streams.core.clock`.
        policy: The rules in force.
        has_policy: Whether `policy` comes from the journal; otherwise it is the default of the model.
        source_offsets: `topic/partition` -> the events folded. An event that is not above them is a redelivery.
        quarantine: What is set aside, and what is usual for each feed.
        window: The open window.
        pending: Closed windows that the champion was not trained on, oldest first.
        pending_labels: Label -> training examples in the pending spans and the open window.
        pending_examples: Training examples in the pending spans and the open window.
        fresh_examples: Training examples that no trigger has taken yet.
        backlog_examples: How many of them the latest trigger left pending, because a run is bounded.
        refusals: Refusals since the latest promotion.
        corrections: What the champion learnt, and whether it still stands.
        attempted_corrections: How many corrections there were at the latest trigger, until a version is promoted.
        refused: Refused version -> end of its windows, for the latest of them since the latest promotion. A person
            can promote one; its windows are then no longer pending.
        label_drift: Labels of the latest `policy.drift_window` training examples, and of those of the champion and
            its ancestors.
        drift_countdown: Training examples until the next measurement of drift.
        drift_armed: Whether the drift rule may trip.
        drift: The latest measurement: Jensen-Shannon distance of the recent labels from the champion's, 0 to 1.
        drift_over: How many of the latest measurements in a row reached the threshold.
        prequential: What the champion's scores on new examples say.
        train_sample: Keys of training examples, stratified by first label, with their latest journal offset.
        holdout_sample: Keys of holdout examples, with their latest journal offset.
        champion: Name of the champion; empty before the first.
        attempted_labels: Labels of the latest trigger, until its version is promoted.
        trigger_count: Number of triggers so far, which is the number of the latest.
        last_trigger_ms: Time of the latest trigger; 0 before the first.
        day_triggers_ms: Times of the triggers of the last 24 hours, as many as the budget, oldest first.
        open_trigger: The trigger that waits for its verdict, if there is one.
        manual_request: Id of the manual request that waits for a trigger; empty if there is none.
        recent_requests: Ids of the latest manual requests, oldest first.
        exclusions: What is left out of the journal, by the latest lineage change.
        lineage_from: The versions of the present lineage have numbers above it; 0 before a lineage change.
    """

    model: str
    next_offset: int = 0
    now_ms: int = 0
    behind_ms: int = 0
    policy: Policy = msgspec.field(default_factory=Policy)
    has_policy: bool = False
    source_offsets: dict[str, SeenOffsets] = {}
    quarantine: Quarantine = msgspec.field(default_factory=Quarantine)
    window: OpenWindow = msgspec.field(default_factory=OpenWindow)
    pending: list[PendingSpan] = []
    pending_labels: dict[str, int] = {}
    pending_examples: int = 0
    fresh_examples: int = 0
    backlog_examples: int = 0
    refusals: int = 0
    corrections: Corrections = msgspec.field(default_factory=lambda: Corrections(size=Policy().reservoir))
    attempted_corrections: int = 0
    refused: dict[str, int] = {}
    label_drift: LabelDrift = msgspec.field(
        default_factory=lambda: LabelDrift(LabelWindow(size=Policy().drift_window))
    )
    drift_countdown: int = 0
    drift_armed: bool = True
    drift: float = 0.0
    drift_over: int = 0
    prequential: Prequential = msgspec.field(default_factory=lambda: new_prequential(Policy()))
    train_sample: StratifiedBottomK = msgspec.field(
        default_factory=lambda: StratifiedBottomK(size=Policy().reservoir)
    )
    holdout_sample: BottomK = msgspec.field(default_factory=lambda: BottomK(size=Policy().reservoir))
    champion: str = ""
    attempted_labels: list[str] = []
    trigger_count: int = 0
    last_trigger_ms: int = 0
    day_triggers_ms: list[int] = []
    open_trigger: Trigger | None = None
    manual_request: str = ""
    recent_requests: list[str] = []
    exclusions: tuple[str, ...] = ()
    lineage_from: int = 0

    @property
    def champion_labels(self) -> dict[str, int]:
        """Label -> training examples of the champion and its ancestors."""
        return self.label_drift.reference

    @property
    def pending_spans(self) -> list[Span]:
        """The spans of `pending`."""
        return [each.span for each in self.pending]


def initial(model: str) -> State:
    """The state before the first record of a model's journal, with the default policy of the model.

    Raises:
        BadConfiguration: There is no such model.
    """
    state = State(model=model)
    set_policy(state, model_spec(model).policy)
    return state


def set_policy(state: State, policy: Policy) -> None:
    """Put a policy in force, and resize what its fields bound."""
    state.policy = policy
    state.train_sample.resize(policy.reservoir)
    state.holdout_sample.resize(policy.reservoir)
    state.corrections.resize(policy.reservoir)
    state.label_drift.window.resize(policy.drift_window)
    state.prequential.set_policy(policy)


class _Snapshot(msgspec.Struct, frozen=True):
    """A state as it is stored. `format` is increased with each change of the state's fields or their meaning."""

    format: Literal[15]
    state: State


def snapshot(state: State) -> bytes:
    """The state as bytes; equal states give equal bytes."""
    return msgspec.json.encode(_Snapshot(15, state))


def restore(data: bytes) -> State:
    """The state of a snapshot.

    Raises:
        Corrupt: The bytes are not a snapshot of this version of the fold. The journal can be folded again instead.
    """
    try:
        return msgspec.json.decode(data, type=_Snapshot).state
    except msgspec.DecodeError as error:
        raise Corrupt(
            f"fold snapshot of {len(data)} bytes: {error}; delete it, it is made again from the journal"
        ) from error
