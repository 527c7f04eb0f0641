"""The fold: `(state, record) -> (state, outputs)` over the journal of one model.

    example ──> second delivery? ──> open window, label counts, sample of keys ─┐
    tick, manual, promoted, refused, policy ────────────────────────────────────┤
                                                                                v
                                              window due? ──> Window ──> rules ──> Trigger or Declined

Everything that decides is in the state or in the record. The same fold runs in the Faust app, in a rebuild,
in a backtest and in the tests. Its size is bounded: it does not grow with the journal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from schemas.errors import Corrupt
from schemas.journal import (
    Example,
    Manual,
    PolicyChange,
    Promoted,
    Record,
    Refused,
    Score,
    Tick,
    held_out,
    in_holdout,
    is_redelivery,
    key_hash,
    source_partition,
)
from schemas.models import model_spec
from schemas.policy import Policy
from schemas.windows import Declined, Span, Trigger, Window
from streams.core.detectors.jensen_shannon import jensen_shannon
from streams.core.rules.evaluate import RuleInputs, judge
from streams.core.sampling import BottomK, StratifiedBottomK, pick, pick_spread
from streams.core.windows import OpenWindow, close, count, due

Output = Window | Trigger | Declined

REMEMBERED_REQUESTS = 64
"""A manual request delivered again within so many requests is seen for what it is."""


class State(msgspec.Struct, kw_only=True):
    """All that the fold knows after the records before `next_offset`.

    Attributes:
        model: Whose journal.
        next_offset: The journal offset that comes next; earlier ones were folded already.
        now_ms: Time of the latest tick.
        policy: The rules in force; `has_policy`: whether the journal gave them.
        seen: `topic/partition` -> highest event offset folded: what is at or below is a second delivery.
        window: The open window.
        pending: Closed windows that the champion was not trained on, oldest first.
        pending_labels: Label counts of their training examples and of the open window's.
        pending_examples: How many those are; `fresh_examples` how many since the last trigger.
        recent: Labels of the latest training examples, a ring of `policy.drift_window`; `recent_labels` counts.
        recent_at: Next place in the ring; `drift_due` counts down to the next drift measurement.
        armed: Whether drift may trip.
        drift: The latest drift statistic.
        train_sample, holdout_sample: Latest examples of bounded samples of keys; for training by first label.
        champion: The serving version; `champion_labels` counts what it and its ancestors were trained on.
        attempted_labels: Labels of the last attempt, until it is promoted.
        triggers: How many triggers there were; `last_trigger_ms` the tick time of the last.
        waiting: The unanswered trigger; `waiting_labels` counts its windows' labels.
        request: Manual request not yet answered by a trigger; `requests` the latest ones seen.
    """

    model: str
    next_offset: int = 0
    now_ms: int = 0
    policy: Policy = msgspec.field(default_factory=Policy)
    has_policy: bool = False
    seen: dict[str, int] = {}
    window: OpenWindow = msgspec.field(default_factory=OpenWindow)
    pending: list[Span] = []
    pending_labels: dict[str, int] = {}
    pending_examples: int = 0
    fresh_examples: int = 0
    recent: list[tuple[str, ...]] = []
    recent_at: int = 0
    recent_labels: dict[str, int] = {}
    drift_due: int = 0
    armed: bool = True
    drift: float = 0.0
    train_sample: StratifiedBottomK = msgspec.field(
        default_factory=lambda: StratifiedBottomK(size=Policy().reservoir)
    )
    holdout_sample: BottomK = msgspec.field(default_factory=lambda: BottomK(size=Policy().reservoir))
    champion: str = ""
    champion_labels: dict[str, int] = {}
    attempted_labels: list[str] = []
    triggers: int = 0
    last_trigger_ms: int = 0
    waiting: Trigger | None = None
    waiting_labels: dict[str, int] = {}
    request: str = ""
    requests: list[str] = []


def initial(model: str) -> State:
    """The state before the first record of a model's journal."""
    state = State(model=model)
    _set_policy(state, model_spec(model).policy)
    return state


class _Snapshot(msgspec.Struct, frozen=True):
    """A state as it is stored. `format` is another number after each change of what the fold remembers."""

    format: Literal[2]
    state: State


def snapshot(state: State) -> bytes:
    """The state as bytes; equal states give equal bytes."""
    return msgspec.json.encode(_Snapshot(2, state))


def restore(data: bytes) -> State:
    """A state from its snapshot.

    Raises:
        Corrupt: The bytes are no snapshot of this version of the fold.
    """
    try:
        return msgspec.json.decode(data, type=_Snapshot).state
    except msgspec.DecodeError as error:
        raise Corrupt(f"fold snapshot of {len(data)} bytes: {error}; delete it, the journal has it all") from error


def fold(
    state: State, records: Iterable[tuple[int, Record]], policy: Policy | None = None
) -> tuple[State, list[Output]]:
    """Fold a batch of records; any split into batches gives the same.

    Args:
        state: Consumed: use only what is returned.
        records: (journal offset, record) in order; offsets below `state.next_offset` are passed over.
        policy: Rules to try instead of those in the journal (a backtest).
    """
    outputs: list[Output] = []
    for offset, record in records:
        state, more = step(state, offset, record, policy)
        if more:
            outputs += more
    return state, outputs


def step(state: State, offset: int, record: Record, policy: Policy | None = None) -> tuple[State, list[Output]]:
    """Fold one record; see `fold`. For speed the state that comes in is the one that goes out."""
    if offset < state.next_offset:
        return state, []
    state.next_offset = offset + 1
    if policy is not None and state.policy != policy:
        _set_policy(state, policy)
    if isinstance(record, Example):
        return state, _decide(state, offset) if _learn(state, offset, record) else []
    return state, _other(state, offset, record, fixed_policy=policy is not None)


def _other(state: State, offset: int, record: Record, *, fixed_policy: bool) -> list[Output]:
    match record:
        case Tick(time_ms=time_ms):
            _pass_time(state, time_ms)
        case Manual(request=request) if request not in state.requests:
            state.requests = [*state.requests, request][-REMEMBERED_REQUESTS:]
            state.request = request
        case PolicyChange(policy=policy) if not fixed_policy:
            state.has_policy = True
            _set_policy(state, policy)
        case Promoted() | Refused() if state.waiting and record.trigger == state.waiting.id:
            _answer(state, record)
        case Score() | _:
            return []
    _look_at_drift(state)  # time may have passed since it was measured, and the champion may be another
    return _decide(state, offset)


def _learn(state: State, offset: int, example: Example) -> bool:
    """Take in one example; True where a decision is due."""
    source = example.source
    partition = source_partition(source)
    if is_redelivery(source, state.seen.get(partition)):
        return False
    state.seen[partition] = source.offset
    hashed = key_hash(example.key)
    holdout = held_out(example) if example.group else in_holdout(hashed)  # the same, without hashing twice
    if state.window.empty:
        state.window.opened_ms = state.now_ms
    state.window.add(example, holdout=holdout)
    _keep(state, offset, example, hashed, holdout=holdout)
    if holdout or example.retracted:
        return False
    state.pending_examples += 1
    state.fresh_examples += 1
    count(state.pending_labels, example.labels, 1)
    _remember(state, example.labels)
    return _measure_drift(state) or state.window.examples >= state.policy.window_examples


def _keep(state: State, offset: int, example: Example, hashed: int, *, holdout: bool) -> None:
    """Bring the samples up to date. A key whose group is another now leaves the other side."""
    if example.group or example.retracted:
        (state.train_sample if holdout else state.holdout_sample).drop(hashed)
    if example.retracted:
        (state.holdout_sample if holdout else state.train_sample).drop(hashed)
    elif holdout:
        state.holdout_sample.put(hashed, offset)
    else:
        state.train_sample.put(hashed, offset, example.labels[0] if example.labels else "")


def _remember(state: State, labels: tuple[str, ...]) -> None:
    if len(state.recent) < state.policy.drift_window:
        state.recent.append(labels)
    else:
        count(state.recent_labels, state.recent[state.recent_at], -1)
        state.recent[state.recent_at] = labels
        state.recent_at = (state.recent_at + 1) % len(state.recent)
    count(state.recent_labels, labels, 1)


def _measure_drift(state: State) -> bool:
    state.drift_due -= 1
    if state.drift_due > 0:
        return False
    state.drift_due = state.policy.drift_every
    return _look_at_drift(state)


def _look_at_drift(state: State) -> bool:
    """Measure drift; False where there is no champion to compare with."""
    if not state.champion_labels:
        return False
    state.drift = jensen_shannon(state.recent_labels, state.champion_labels)
    if state.drift < state.policy.drift_rearm:
        state.armed = True
    return True


def _pass_time(state: State, time_ms: int) -> None:
    if not state.now_ms:
        state.window.opened_ms = time_ms
    state.now_ms = max(state.now_ms, time_ms)


def _set_policy(state: State, policy: Policy) -> None:
    state.policy = policy
    state.train_sample.resize(policy.reservoir)
    state.holdout_sample.resize(policy.reservoir)
    oldest_first = state.recent[state.recent_at :] + state.recent[: state.recent_at]
    state.recent, state.recent_at, state.recent_labels = oldest_first[-policy.drift_window :], 0, {}
    for labels in state.recent:
        count(state.recent_labels, labels, 1)


def _answer(state: State, answer: Promoted | Refused) -> None:
    waiting, state.waiting = state.waiting, None
    if isinstance(answer, Promoted) and waiting:
        state.champion = answer.version
        state.pending = [span for span in state.pending if span.start >= waiting.spans[-1].end]
        for label, number in state.waiting_labels.items():
            count(state.champion_labels, (label,), number)
            count(state.pending_labels, (label,), -number)
        state.pending_examples -= waiting.examples
        state.attempted_labels = []
        state.armed = True
    state.waiting_labels = {}


def _decide(state: State, offset: int) -> list[Output]:
    outputs: list[Output] = []
    closed_by = due(state.window, state.policy, state.now_ms)
    if closed_by:
        outputs.append(_close(state, offset + 1, closed_by))
    reason, measures, why_not = judge(_situation(state), state.policy)
    if reason is None:
        return [*outputs, Declined(
            model=state.model, offset=offset, at_ms=state.now_ms, why=why_not, measures=measures
        )]  # fmt: skip
    if not state.window.empty:
        outputs.append(_close(state, offset + 1, "manual" if reason == "manual" else "trigger"))
    state.triggers += 1
    trigger = Trigger(
        model=state.model,
        number=state.triggers,
        offset=offset,
        reason=reason,
        at_ms=state.now_ms,
        parent=state.champion,
        spans=tuple(state.pending),
        labels=tuple(sorted(state.champion_labels.keys() | state.pending_labels.keys())),
        measures=measures,
        seed=state.policy.seed,
        **_samples(state),
    )
    _wait(state, trigger)
    return [*outputs, trigger]


def _situation(state: State) -> RuleInputs:
    known = state.champion_labels.keys() | set(state.attempted_labels)
    return RuleInputs(
        now_ms=state.now_ms,
        last_trigger_ms=state.last_trigger_ms,
        champion=state.champion,
        fresh=state.fresh_examples,
        pending=state.pending_examples,
        recent=min(len(state.recent), state.pending_examples),
        drift=state.drift,
        armed=state.armed,
        new_labels={label: n for label, n in state.pending_labels.items() if label not in known},
        waiting=state.waiting.id if state.waiting else "",
        request=state.request,
    )


def _close(state: State, end: int, closed_by: str) -> Window:
    window = close(state.window, state.model, end, state.now_ms, closed_by)  # type: ignore[arg-type]
    state.pending.append(Span(window.start, window.end, window.examples, window.digest))
    state.window = OpenWindow(start=end, opened_ms=state.now_ms)
    return window


def _samples(state: State) -> dict[str, tuple[int, ...]]:
    start, policy, salt = state.pending[0].start, state.policy, state.triggers
    older = state.train_sample.before(start)
    holdout = list(state.holdout_sample.offsets.items())

    def judged(pairs: Iterable[tuple[int, int]]) -> tuple[int, ...]:
        return pick(pairs, policy.holdout_examples, policy.seed, salt)

    return {
        "rehearsal": pick_spread(older, policy.rehearsal_examples, policy.seed, salt),
        "holdout_old": judged(pair for pair in holdout if pair[1] < start),
        "holdout_recent": judged(pair for pair in holdout if pair[1] >= start),
    }


def _wait(state: State, trigger: Trigger) -> None:
    state.waiting = trigger
    state.waiting_labels = dict(state.pending_labels)
    state.attempted_labels = list(trigger.labels)
    state.fresh_examples = 0
    state.last_trigger_ms = state.now_ms
    state.request = ""
    if trigger.reason == "drift":
        state.armed = False
