"""The fold: `(state, record) -> (state, outputs)` over the journal of one model.

    example ──> redelivery? ──> open window, label counts, samples of keys ─────┐
    tick, manual, score, promoted, refused, policy ─────────────────────────────┤
                                                                                v
                                              window due? ──> Window ──> rules ──> Trigger or Declined

A decision depends on the state and the record alone. The state does not grow with the journal, windows and triggers
fit a message (`bounds.py`), a wrong tick is set right (`clock.py`), and what is held waits (`quarantine.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from schemas.exclusions import is_excluded
from schemas.journal import (
    ChampionChange,
    Example,
    LineageChange,
    Manual,
    PolicyChange,
    Promoted,
    QuarantineRecord,
    Record,
    Refused,
    Score,
    Tick,
    held_out,
    in_holdout,
    key_hash,
)
from schemas.policy import Policy
from schemas.windows import ClosedBy, Declined, Measure, Reason, Span, Trigger, Window
from streams.core.bounds import MAX_ID_CHARS, PendingSpan, counted_labels, merge_oldest, spans_of_a_run
from streams.core.clock import tick_time
from streams.core.label_counts import add_labels
from streams.core.prequential import new_prequential
from streams.core.quarantine import apply
from streams.core.rules.evaluate import Decision, breaker_left_s, evaluate_rules, is_budget_used
from streams.core.rules.inputs import RuleInputs
from streams.core.state import State, initial, restore, set_policy, snapshot
from streams.core.trigger_samples import draw_samples
from streams.core.windows import OpenWindow, close_window, due_to_close

__all__ = ["Output", "State", "fold", "initial", "restore", "rule_measures", "snapshot", "step"]

Output = Window | Trigger | Declined

DAY_MS = 86_400_000
MAX_RECENT_REQUESTS = 64
"""A manual request that is delivered again after fewer requests than this has no effect."""


def fold(
    state: State, records: Iterable[tuple[int, Record]], policy: Policy | None = None
) -> tuple[State, list[Output]]:
    """Fold a batch of records. The result does not depend on how a journal is split into batches.

    Args:
        state: Modified in place; use only the returned state afterwards.
        records: (journal offset, record) in order. Offsets below `state.next_offset` are skipped.
        policy: Rules to use instead of those in the journal, for a backtest.

    Returns:
        The state after the batch, and the outputs in order. Without records, the same state and no outputs.
    """
    outputs: list[Output] = []
    for offset, record in records:
        state, more = step(state, offset, record, policy)
        if more:
            outputs += more
    return state, outputs


def step(state: State, offset: int, record: Record, policy: Policy | None = None) -> tuple[State, list[Output]]:
    """Fold one record; see `fold`. The returned state is the same object, for speed."""
    if offset < state.next_offset:
        return state, []
    state.next_offset = offset + 1
    if policy is not None and state.policy is not policy and state.policy != policy:
        set_policy(state, policy)
    if isinstance(record, Example):
        return state, _decide(state, offset) if _on_example(state, offset, record) else []
    if isinstance(record, QuarantineRecord | Score):
        apply(state.quarantine, state.source_offsets, offset, record)
    if isinstance(record, QuarantineRecord):
        return state, []
    return state, _on_control_record(state, offset, record, fixed_policy=policy is not None)


def _on_control_record(state: State, offset: int, record: Record, *, fixed_policy: bool) -> list[Output]:
    match record:
        case Tick(time_ms=time_ms):
            _on_tick(state, time_ms)
        case Manual(request=request) if _is_new(state, request):
            state.manual_request = request[:MAX_ID_CHARS]
        case PolicyChange(policy=policy) if not fixed_policy:
            state.has_policy = True
            set_policy(state, policy)
        case Promoted() | Refused() if state.open_trigger and record.trigger == state.open_trigger.id:
            _on_verdict(state, state.open_trigger, record)
        case ChampionChange(request=request) if _is_new(state, request):
            _on_champion_change(state, record)
        case LineageChange(request=request) if _is_new(state, request):
            if state.exclusions != record.exclusions:
                raise ValueError("a lineage change needs the records before it: see streams.core.lineage.follow")
        case Score(version=version, each=each) if each and version == state.champion:
            state.prequential.take(record, state.policy)
        case _:
            return []
    _measure_drift(state)  # examples may have come since the latest measurement, and the champion may have changed
    return _decide(state, offset)


def _is_new(state: State, request: str) -> bool:
    """Whether a request was not seen before; from here on it was."""
    if request[:MAX_ID_CHARS] in state.recent_requests:
        return False
    state.recent_requests = [*state.recent_requests, request[:MAX_ID_CHARS]][-MAX_RECENT_REQUESTS:]
    return True


def _on_example(state: State, offset: int, example: Example) -> bool:
    """Add an example to the state. True if a decision is due."""
    if not apply(state.quarantine, state.source_offsets, offset, example):
        return False
    if state.exclusions and is_excluded(example, state.exclusions):
        return False
    hashed_key, window = key_hash(example.key), state.window
    holdout = held_out(example) if example.group else in_holdout(hashed_key)  # the same, but hashes only once
    if window.is_empty:
        window.opened_ms = state.now_ms
    trains = not holdout and not example.retracted
    labels = counted_labels(example.labels, state.pending_labels, state.label_drift.reference) if trains else ()
    window.add(example, labels, holdout=holdout)
    _update_samples(state, offset, example, hashed_key, labels, holdout=holdout)
    if not trains:
        return False
    state.pending_examples += 1
    state.fresh_examples += 1
    add_labels(state.pending_labels, labels, 1)
    state.label_drift.window.add(labels)
    state.drift_countdown -= 1
    measured = state.drift_countdown <= 0 and _measure_drift_of_examples(state)
    return measured or window.examples >= state.policy.window_examples


def _update_samples(
    state: State, offset: int, example: Example, hashed_key: int, labels: tuple[str, ...], *, holdout: bool
) -> None:
    """Put or discard a key. A key whose group changed may have to leave the sample of the other side."""
    if example.group or example.retracted:
        (state.train_sample if holdout else state.holdout_sample).discard(hashed_key)
    if example.retracted:
        state.corrections.retract(hashed_key, offset)
        (state.holdout_sample if holdout else state.train_sample).discard(hashed_key)
    elif holdout:
        state.holdout_sample.put(hashed_key, offset)
    else:
        state.train_sample.put(hashed_key, offset, labels[0] if labels else "")
        state.corrections.put(hashed_key, labels, offset)


def _measure_drift_of_examples(state: State) -> bool:
    """Measure drift, as is due every `policy.drift_every` examples. False if there is nothing to compare with."""
    state.drift_countdown = state.policy.drift_every
    return _measure_drift(state, counts=True)


def _measure_drift(state: State, *, counts: bool = False) -> bool:
    """Measure the drift of labels. False if there is no champion to compare with.

    Args:
        counts: Whether it is a further measurement: at a control record no example need have come since the latest.
    """
    if not state.champion_labels:
        return False
    state.drift = state.label_drift.statistic
    over = state.drift >= state.policy.drift_threshold
    state.drift_over = max(state.drift_over + counts, 1) if over else 0
    if state.drift < state.policy.drift_rearm:
        state.drift_armed = True
    return True


def _on_tick(state: State, time_ms: int) -> None:
    before_ms = state.now_ms
    state.now_ms, state.behind_ms = tick_time(before_ms, state.behind_ms, time_ms)
    if not before_ms:
        state.window.opened_ms = state.now_ms
    if state.now_ms < before_ms:
        state.window.opened_ms = min(state.window.opened_ms, state.now_ms)
        state.last_trigger_ms = min(state.last_trigger_ms, state.now_ms)
        state.day_triggers_ms = [min(at_ms, state.now_ms) for at_ms in state.day_triggers_ms]


def _on_verdict(state: State, trigger: Trigger, verdict: Promoted | Refused) -> None:
    """Close the open trigger. A promotion takes its spans and labels from the pending ones."""
    vanished = state.corrections.vanished(state.policy.taxonomy_examples)
    state.corrections.settle(promoted=isinstance(verdict, Promoted))
    if isinstance(verdict, Promoted):
        _set_champion(state, verdict.version, trigger.spans[-1].end, vanished)
    else:
        state.refusals += 1
        state.refused[verdict.version[:MAX_ID_CHARS]] = trigger.spans[-1].end
        if len(state.refused) > MAX_RECENT_REQUESTS:
            del state.refused[next(iter(state.refused))]
    state.open_trigger = None


def _on_champion_change(state: State, change: ChampionChange) -> None:
    """A person's champion. What an earlier champion learnt is not pending again: it is rehearsed."""
    version = change.version[:MAX_ID_CHARS]
    end = state.refused.get(version, 0)
    vanished = state.corrections.vanished(state.policy.taxonomy_examples)
    state.corrections.learn(end)
    _set_champion(state, version, end, vanished)


def _set_champion(state: State, version: str, end: int, vanished: Mapping[str, int]) -> None:
    """Make a version the champion. What is pending before the journal offset `end` is what it learnt.

    Of the labels that vanished before it learnt, it has those that some example has, as it learnt it or now.
    """
    state.champion = version[:MAX_ID_CHARS]
    state.prequential = new_prequential(state.policy)
    learnt = [each for each in state.pending if each.span.end <= end]
    state.pending = state.pending[len(learnt) :]
    for each in learnt:
        for label, examples in each.labels.items():
            add_labels(state.champion_labels, (label,), examples)
            add_labels(state.pending_labels, (label,), -examples)
        state.pending_examples -= each.span.examples
    for label in vanished.keys() - state.corrections.learnt.keys() - state.corrections.now.keys():
        state.champion_labels.pop(label, None)
    state.attempted_corrections = 0
    state.attempted_labels = []
    state.drift_armed = True
    state.drift_over = 0
    state.refusals = 0
    state.refused = {name: until for name, until in state.refused.items() if until > end}


def _decide(state: State, offset: int) -> list[Output]:
    """Close the window if it is due, evaluate the rules, and open a trigger if one of them tripped."""
    outputs: list[Output] = []
    closed_by = due_to_close(state.window, state.policy, state.now_ms)
    if closed_by:
        outputs.append(_close_window(state, offset + 1, closed_by))
    decision = evaluate_rules(_rule_inputs(state), state.policy)
    if decision.reason is None:
        outputs.append(_declined(state, offset, decision))
        return outputs
    if not state.window.is_empty:
        outputs.append(_close_window(state, offset + 1, "manual" if decision.reason == "manual" else "trigger"))
    outputs.append(_open_trigger(state, offset, decision.reason, decision.measures))
    return outputs


def _declined(state: State, offset: int, decision: Decision) -> Declined:
    return Declined(
        model=state.model, offset=offset, at_ms=state.now_ms, why=decision.why_not, measures=decision.measures
    )


def rule_measures(state: State) -> tuple[Measure, ...]:
    """The values and limits of all rules in a state, which is not changed."""
    return evaluate_rules(_rule_inputs(state), state.policy).measures


def retrains_of_day(state: State) -> int:
    """Decisions to retrain within the last 24 hours, up to the budget of the policy."""
    return sum(state.now_ms - at_ms < DAY_MS for at_ms in state.day_triggers_ms)


def holds(state: State) -> dict[str, bool]:
    """Whether each of these holds a retrain back: a trigger without an answer, the breaker, the budget."""
    inputs = _rule_inputs(state)
    return {
        "answer": bool(inputs.open_trigger),
        "breaker": breaker_left_s(inputs, state.policy) > 0,
        "budget": is_budget_used(inputs, state.policy),
    }


def _rule_inputs(state: State) -> RuleInputs:
    attempted = set(state.attempted_labels)
    known = state.champion_labels.keys() | attempted
    scored = state.prequential
    vanished = state.corrections.vanished(state.policy.taxonomy_examples)
    return RuleInputs(
        now_ms=state.now_ms,
        last_trigger_ms=state.last_trigger_ms,
        champion=state.champion,
        fresh_examples=state.fresh_examples,
        backlog_examples=0 if state.refusals else state.backlog_examples,
        pending_examples=state.pending_examples,
        triggers_today=retrains_of_day(state),
        refusals=state.refusals,
        drift=state.drift,
        drift_examples=min(state.label_drift.support, state.pending_examples),
        drift_armed=state.drift_armed,
        drift_in_a_row=state.drift_over,
        input_drift=scored.input_drift,
        input_drift_examples=scored.inputs.support,
        input_drift_in_a_row=scored.inputs_over,
        input_drift_armed=scored.inputs_armed,
        performance_drift=scored.performance_drift,
        performance_drift_examples=scored.performance.support,
        performance_drift_in_a_row=scored.performance_over,
        corrections=state.corrections.count(),
        attempted_corrections=state.attempted_corrections,
        new_labels={label: n for label, n in state.pending_labels.items() if label not in known},
        vanished_labels={label: n for label, n in vanished.items() if label in (attempted or known)},
        open_trigger=state.open_trigger.id if state.open_trigger else "",
        manual_request=state.manual_request,
    )


def _close_window(state: State, end: int, closed_by: ClosedBy) -> Window:
    window = close_window(state.window, state.model, end, state.now_ms, closed_by)
    span = Span(window.start, window.end, window.examples, window.digest)
    state.pending.append(PendingSpan(span, window.labels))
    boundary = state.open_trigger.spans[-1].end if state.open_trigger else 0
    state.pending = merge_oldest(state.pending, boundary, state.policy.run_examples)
    state.window = OpenWindow(start=end, opened_ms=state.now_ms)
    return window


def _open_trigger(state: State, offset: int, reason: Reason, measures: tuple[Measure, ...]) -> Trigger:
    """Make a trigger of the oldest pending spans, and wait for its verdict."""
    state.trigger_count += 1
    taken = spans_of_a_run(state.pending, state.policy.run_examples * (1 + state.refusals))
    labels: dict[str, int] = {}
    for each in taken:
        for label, examples in each.labels.items():
            add_labels(labels, (label,), examples)
    start = taken[0].span.start
    vanished = state.corrections.vanished(state.policy.taxonomy_examples)
    samples = draw_samples(state.policy, state.trigger_count, start, state.train_sample, state.holdout_sample)
    trigger = Trigger(
        model=state.model,
        number=state.trigger_count,
        offset=offset,
        reason=reason,
        at_ms=state.now_ms,
        parent=state.champion,
        spans=tuple(each.span for each in taken),
        rehearsal=samples.rehearsal,
        holdout_old=samples.holdout_old,
        holdout_recent=samples.holdout_recent,
        labels=tuple(sorted((state.champion_labels.keys() | labels.keys()) - vanished.keys())),
        measures=measures,
        seed=state.policy.seed,
        gate=state.policy.gate,
        recipe=state.policy.recipe,
    )
    state.open_trigger = trigger
    state.attempted_labels = list(trigger.labels)
    state.attempted_corrections = state.corrections.count()
    state.corrections.attempt(trigger.spans[-1].end)
    state.fresh_examples = state.backlog_examples = state.pending_examples - trigger.examples
    state.last_trigger_ms = state.now_ms
    if state.now_ms and state.policy.retrains_per_day:
        state.day_triggers_ms = [*state.day_triggers_ms, state.now_ms][-state.policy.retrains_per_day :]
    state.manual_request = ""
    if reason == "drift":
        state.drift_armed = False
    elif reason == "input_drift":
        state.prequential.tripped_inputs()
    elif reason == "performance_drift":
        state.prequential.tripped_performance()
    return trigger
