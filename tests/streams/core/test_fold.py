"""The fold decides the same for the same journal, however it is batched, redelivered or restarted."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import MAX_RECORD_BYTES, encode
from schemas.errors import Corrupt
from schemas.journal import (
    ChampionChange,
    Example,
    Manual,
    PolicyChange,
    Promoted,
    Record,
    Refused,
    in_holdout,
    key_hash,
)
from schemas.policy import Policy
from schemas.windows import Declined, Trigger, Window
from streams.core.bounds import MAX_LABELS, MAX_SPANS
from streams.core.fold import Output, State, fold, restore, snapshot
from tests.streams.core.records import SMALL, example, numbered, tick, training

KEYS = [f"relationship:{n}" for n in range(60)]


def fresh(policy: Policy = SMALL) -> State:
    state, _ = fold(State(model="m"), [(0, PolicyChange(policy))])
    return state


def run(records: list[Record], policy: Policy = SMALL) -> tuple[State, list[Output]]:
    return fold(fresh(policy), numbered(records, 1))


def of(kind: type, outputs: list[Output]) -> list[Any]:
    return [output for output in outputs if isinstance(output, kind)]


@st.composite
def journals(draw: st.DrawFn) -> list[Record]:
    """Journals with edits, retractions, redeliveries, verdicts, ticks and manual requests."""
    records: list[Record] = [PolicyChange(SMALL)]
    event, days, trigger_offsets = 0, 0.0, st.integers(0, 150)
    for _ in range(draw(st.integers(0, 120))):
        kind = draw(
            st.sampled_from(["example"] * 12 + ["again", "tick", "manual", "promoted", "refused", "policy"])
        )
        if kind == "example":
            labels = draw(st.sets(st.sampled_from("abcdef"), min_size=1, max_size=3))
            retracted = draw(st.integers(0, 9)) == 0
            records.append(example(event, *sorted(labels), key=draw(st.sampled_from(KEYS)), retracted=retracted))
            event += 1
        elif kind == "again" and event:
            again = draw(st.integers(0, event - 1))
            records += [r for r in records if isinstance(r, Example) and r.source.offset >= again][:5]
        elif kind == "tick":
            days += draw(st.floats(0, 40))
            records.append(tick(days))
        elif kind == "manual":
            records.append(Manual(request=f"r{draw(st.integers(0, 3))}", reason="asked", time_ms=0))
        elif kind == "policy":
            records.append(PolicyChange(Policy(drift_window=draw(st.integers(1, 50)), reservoir=7, cooldown_s=0.0)))
        else:
            verdict = Promoted if kind == "promoted" else Refused
            extra = {} if kind == "promoted" else {"reason": "worse"}
            trigger = f"m@{draw(trigger_offsets)}"
            records.append(verdict(trigger=trigger, version=f"v{len(records)}", time_ms=0, **extra))
    return with_trigger_ids(records)


def with_trigger_ids(records: list[Record]) -> list[Record]:
    """The records, with the id of the open trigger in each verdict, so that the verdicts take effect."""
    state, fixed = State(model="m"), []
    for offset, record in enumerate(records):
        if isinstance(record, Promoted | Refused) and state.open_trigger:
            fixed.append(type(record)(**{**_fields(record), "trigger": state.open_trigger.id}))
        else:
            fixed.append(record)
        state, _ = fold(state, [(offset, fixed[-1])])
    return fixed


def _fields(record: Promoted | Refused) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


@given(journals(), st.lists(st.integers(1, 20), max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_split_into_batches_gives_the_same(journal: list[Record], sizes: list[int]) -> None:
    whole_state, whole = fold(State(model="m"), numbered(journal))
    state, parts, at = State(model="m"), [], 0
    for size in [*sizes, len(journal)]:
        state, outputs = fold(state, numbered(journal)[at : at + size])
        parts += outputs
        at += size
    assert (snapshot(state), parts) == (snapshot(whole_state), whole)


@given(journals(), st.integers(0, 120), st.integers(0, 120))
@settings(max_examples=60, deadline=None)
def test_redelivering_any_suffix_changes_nothing(journal: list[Record], at: int, back: int) -> None:
    whole_state, whole = fold(State(model="m"), numbered(journal))
    records = numbered(journal)
    at = min(at, len(records))
    state, first = fold(State(model="m"), records[:at])
    state, rest = fold(state, records[max(at - back, 0) :])
    assert (snapshot(state), first + rest) == (snapshot(whole_state), whole)


@given(journals(), st.integers(0, 120))
@settings(max_examples=60, deadline=None)
def test_a_restart_from_any_snapshot_changes_nothing(journal: list[Record], at: int) -> None:
    whole_state, whole = fold(State(model="m"), numbered(journal))
    state, first = fold(State(model="m"), numbered(journal)[:at])
    state, rest = fold(restore(snapshot(state)), numbered(journal)[at:])
    assert (snapshot(state), first + rest) == (snapshot(whole_state), whole)


@given(journals())
@settings(max_examples=60, deadline=None)
def test_redelivered_events_in_the_journal_count_once(journal: list[Record]) -> None:
    """A writer that is killed repeats events. Windows may then have other ends, but not other content."""
    once = [r for r in journal if isinstance(r, Example)]
    clean = list({r.source.offset: r for r in once}.values())
    repeated = clean + clean[len(clean) // 2 :]
    _, outputs = run(clean)
    _, again = run(repeated)
    assert [(w.digest, w.examples) for w in of(Window, again)] == [
        (w.digest, w.examples) for w in of(Window, outputs)
    ]


@given(journals())
@settings(max_examples=60, deadline=None)
def test_windows_are_contiguous_and_hold_every_example_once(journal: list[Record]) -> None:
    state, outputs = fold(State(model="m"), numbered(journal))
    windows = of(Window, outputs)
    assert [w.start for w in windows] == [0, *(w.end for w in windows)][: len(windows)]
    counted = sum(w.examples + w.holdout + w.retracted for w in windows)
    rest = state.window.examples + state.window.holdout + state.window.retracted
    offsets = {r.source.offset for r in journal if isinstance(r, Example)}
    assert counted + rest == len(offsets)


@given(journals())
@settings(max_examples=60, deadline=None)
def test_samples_of_a_trigger_have_no_superseded_example_and_respect_the_holdout(journal: list[Record]) -> None:
    _, outputs = fold(State(model="m"), numbered(journal))
    for trigger in of(Trigger, outputs):
        latest: dict[str, int] = {}
        seen: set[int] = set()
        for offset, record in numbered(journal)[: trigger.offset + 1]:
            if isinstance(record, Example) and record.source.offset not in seen:
                seen.add(record.source.offset)
                latest[record.key] = offset
        for offset in (*trigger.rehearsal, *trigger.holdout_old, *trigger.holdout_recent):
            record = journal[offset]
            assert isinstance(record, Example)
            assert latest[record.key] == offset
            assert not record.retracted
            assert in_holdout(key_hash(record.key)) == (offset not in trigger.rehearsal)
        assert all(offset < trigger.spans[0].start for offset in (*trigger.rehearsal, *trigger.holdout_old))


def test_the_first_version_waits_for_the_bootstrap_volume() -> None:
    _, outputs = run(training(19))
    assert not of(Trigger, outputs)
    _, outputs = run(training(20))
    (trigger,) = of(Trigger, outputs)
    assert (trigger.reason, trigger.parent, trigger.version, trigger.examples) == ("volume", "", "v0001", 20)


def test_no_rule_trips_while_a_trigger_is_open_and_examples_meanwhile_are_not_lost() -> None:
    state, outputs = run(training(60))
    (first,) = of(Trigger, outputs)
    state, outputs = fold(state, [(100, Promoted(trigger=first.id, version="v0001", time_ms=0))])
    (second,) = of(Trigger, outputs)
    assert (second.parent, second.spans[0].start, second.examples) == ("v0001", first.spans[-1].end, 40)
    assert state.pending_examples == 40


def test_a_refusal_keeps_the_windows_for_the_next_trigger_and_waits_for_new_examples() -> None:
    state, outputs = run(training(20))
    (first,) = of(Trigger, outputs)
    state, outputs = fold(state, [(50, Refused(trigger=first.id, version="v0001", reason="worse", time_ms=0))])
    assert not of(Trigger, outputs)
    state, outputs = fold(state, numbered(list(training(20, first=30)), 51))
    (second,) = of(Trigger, outputs)
    assert (second.version, second.parent, second.examples) == ("v0002", "", 40)


def promoted(labels: str = "ab", policy: Policy = SMALL) -> State:
    records: list[Record] = [tick(), *training(10, labels[0]), *training(10, labels[1], first=20)]
    state, outputs = run(records, policy)
    (trigger,) = of(Trigger, outputs)
    state, _ = fold(state, [(90, Promoted(trigger=trigger.id, version="v0001", time_ms=0)), (91, tick(0.1))])
    return state


def test_drift_trips_at_its_threshold_and_again_only_after_it_was_rearmed() -> None:
    state = promoted("ab")
    state.policy = Policy(**{**_policy(SMALL), "taxonomy_examples": 10_000, "retrain_examples": 10_000})
    state, outputs = fold(state, numbered(list(training(20, "c", first=50)), 92))
    (trigger,) = of(Trigger, outputs)
    measure = next(m for m in trigger.measures if m.rule == "drift")
    assert (trigger.reason, measure.tripped) == ("drift", True)
    assert measure.value >= measure.limit == 0.5
    state, outputs = fold(state, [(200, Refused(trigger=trigger.id, version="v0002", reason="worse", time_ms=0))])
    state, outputs = fold(state, numbered(list(training(20, "c", first=100)), 201))
    assert not of(Trigger, outputs), "disarmed until it falls below the re-arm level"
    state, outputs = fold(state, numbered([*training(12, "a", first=150), *training(12, "b", first=180)], 300))
    assert state.drift_armed


def test_labels_distributed_as_those_of_the_champion_are_no_drift() -> None:
    state = promoted("ab")
    state.policy = Policy(**{**_policy(SMALL), "retrain_examples": 10_000})
    again = [
        r for pair in zip(training(100, "a", first=50), training(100, "b", first=500), strict=True) for r in pair
    ]
    renumbered = [example(1000 + n, *r.labels, key=r.key) for n, r in enumerate(again)]
    _, outputs = fold(state, numbered(list(renumbered), 92))
    assert not of(Trigger, outputs)


def test_a_label_unknown_to_the_champion_trips_the_taxonomy_rule() -> None:
    _, outputs = fold(promoted("ab"), numbered(list(training(4, "reconnaissance", first=50)), 92))
    assert not of(Trigger, outputs)
    _, outputs = fold(promoted("ab"), numbered(list(training(10, "reconnaissance", first=50)), 92))
    (trigger,) = of(Trigger, outputs)
    assert trigger.reason == "taxonomy"
    assert trigger.labels == ("a", "b", "reconnaissance")


def test_staleness_needs_age_and_new_examples() -> None:
    old = tick(31)
    _, outputs = fold(promoted(), [(92, old)])
    assert not of(Trigger, outputs)
    _, outputs = fold(promoted(), [*numbered(list(training(5, "a", first=50)), 92), (97, old)])
    (trigger,) = of(Trigger, outputs)
    assert trigger.reason == "staleness"


def test_within_the_cool_down_only_a_manual_request_trips() -> None:
    cool_down = Policy(**{**_policy(SMALL), "cooldown_s": 86_400.0})
    state, outputs = fold(promoted(policy=cool_down), numbered(list(training(30, "a", first=50)), 92))
    declined = of(Declined, outputs)
    assert not of(Trigger, outputs)
    assert "cooling down for another" in declined[-1].why
    state, outputs = fold(state, [(200, Manual(request="r", reason="now", time_ms=0))])
    assert [t.reason for t in of(Trigger, outputs)] == ["manual"]


def triggers_of(chunks: list[list[str]], days: list[int], early: list[bool]) -> list[Any]:
    """The triggers of a history whose verdicts come at once, or only when the cool-down is about to end.

    A capital relabels an earlier example.
    """
    rules = {"cooldown_s": 20 * 86_400.0, "retrain_examples": 60, "corrections_examples": 4}
    cool_down = Policy(**{**_policy(SMALL), **rules})
    (state, outputs), offset, number, day = (fresh(cool_down), list[Output]()), 0, 0, 0

    def append(record: Record) -> None:
        nonlocal state, offset
        offset += 1
        state, more = fold(state, [(offset, record)])
        outputs.extend(more)

    def promote() -> None:
        if state.open_trigger:
            append(Promoted(trigger=state.open_trigger.id, version=state.open_trigger.version, time_ms=0))

    append(tick())
    for labels, after, at_once in zip(chunks, days, early, strict=True):
        for label in labels:
            number += 1
            earlier = f"relationship:{(number * 7_919) % max(number - 1, 1) + 1}" if label.isupper() else None
            append(example(number, label.lower(), key=earlier))
            if at_once:
                promote()
        day += after
        if state.open_trigger and tick(day).time_ms >= state.last_trigger_ms + cool_down.cooldown_s * 1000:
            promote()
        append(tick(day))
    return [
        (
            t.number,
            t.reason,
            t.at_ms,
            [(s.examples, s.digest) for s in t.spans],
            t.labels,
            len(t.rehearsal),
            [(m.rule, m.value, m.detail) for m in t.measures if m.rule in ("corrections", "taxonomy")],
        )
        for t in of(Trigger, outputs)
    ]


@given(st.data(), st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_the_time_of_a_verdict_within_the_cool_down_makes_no_difference(data: st.DataObject, size: int) -> None:
    runs = st.lists(st.tuples(st.sampled_from("aaabbcAB"), st.integers(1, 25)), max_size=4)
    drawn = data.draw(st.lists(runs, min_size=size, max_size=size))
    chunks = [[label for label, times in chunk for _ in range(times)] for chunk in drawn]
    days = data.draw(st.lists(st.integers(1, 40), min_size=size, max_size=size))
    early = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    assert triggers_of(chunks, days, early) == triggers_of(chunks, days, [False] * size)


def test_a_manual_request_closes_the_window_and_its_redelivery_has_no_effect() -> None:
    request = Manual(request="r", reason="please", time_ms=0)
    state, outputs = run([*training(3), request])
    assert [w.closed_by for w in of(Window, outputs)] == ["manual"]
    (trigger,) = of(Trigger, outputs)
    state, outputs = fold(state, [(60, Promoted(trigger=trigger.id, version="v0001", time_ms=0))])
    _, outputs = fold(state, [(61, request), *numbered(list(training(1, first=50)), 62)])
    assert not of(Trigger, outputs)


def test_a_tick_closes_an_old_window_but_never_an_empty_one() -> None:
    _, outputs = run([tick(), *training(1), tick(0.5)])
    assert not of(Window, outputs)
    _, outputs = run([tick(), *training(1), tick(0.5), tick(1.1), tick(5)])
    assert [w.closed_by for w in of(Window, outputs)] == ["age"]


def test_a_decision_not_to_retrain_has_a_reason_and_the_measures_of_all_rules() -> None:
    _, outputs = run([*training(10), tick()])
    declined = of(Declined, outputs)
    assert declined[-1].why == "no rule tripped"
    assert {m.rule: (m.value, m.limit) for m in declined[-1].measures}["volume"] == (10.0, 20.0)


def test_a_backtest_policy_overrides_that_of_the_journal() -> None:
    eager = Policy(**{**_policy(SMALL), "bootstrap_examples": 5, "window_examples": 5})
    _, outputs = fold(State(model="m"), numbered([PolicyChange(SMALL), *training(20)]), policy=eager)
    assert of(Trigger, outputs)[0].examples == 5


def test_the_state_does_not_grow_with_the_journal() -> None:
    def size(examples: int) -> int:
        state, outputs = run(training(20))
        (trigger,) = of(Trigger, outputs)
        state, _ = fold(state, [(30, Promoted(trigger=trigger.id, version="v0001", time_ms=0))])
        policy = Policy(**{**_policy(SMALL), "window_examples": 10**9, "retrain_examples": 10**9})
        state, _ = fold(state, numbered(list(training(examples, first=100)), 31), policy=policy)
        return len(snapshot(state))

    assert size(5_000) < size(500) * 1.2


@pytest.mark.parametrize(
    "bytes_",
    [
        snapshot(fresh())[:-2],
        msgspec.json.encode(fresh()),
        snapshot(fresh()).replace(b'"format":', b'"format":9', 1),
    ],
)
def test_a_snapshot_that_is_damaged_or_of_another_format_is_refused(bytes_: bytes) -> None:
    assert restore(snapshot(fresh())) == fresh()
    with pytest.raises(Corrupt, match="delete it"):
        restore(bytes_)


def test_frequent_labels_do_not_take_most_of_the_rehearsal() -> None:
    """There are fifty times as many templates as techniques, with half as many labels."""
    policy = Policy(**{**_policy(SMALL), "reservoir": 200, "rehearsal_examples": 60, "bootstrap_examples": 10**6})
    techniques = [r for n in range(4) for r in training(20, f"tactic-{n}", first=100 * n)]
    templates = [r for n in range(2) for r in training(2_000, f"severity:{n}", first=1_000 + 10_000 * n)]
    manual = Manual(request="r", reason="now", time_ms=0)
    records = [*techniques, *templates, manual]
    state, outputs = run(records, policy)
    (first,) = of(Trigger, outputs)
    after = len(records) + 1
    more = [*training(5, "tactic-0", first=90_000), Manual(request="s", reason="now", time_ms=0)]
    promoted = Promoted(trigger=first.id, version="v0001", time_ms=0)
    _, outputs = fold(state, numbered([promoted, *more], after))
    (second,) = of(Trigger, outputs)
    drawn = Counter(records[offset - 1].labels[0] for offset in second.rehearsal)
    assert drawn == dict.fromkeys(drawn, 10)
    assert len(drawn) == 6


def test_an_example_whose_group_changes_leaves_the_other_side_of_the_holdout() -> None:
    inside, outside = (
        next(f"g{n}" for n in range(999) if in_holdout(key_hash(f"g{n}")) is side) for side in (True, False)
    )
    for groups in ((inside, outside), (outside, inside)):
        records = [msgspec.structs.replace(example(n, key="k"), group=group) for n, group in enumerate(groups)]
        state, _ = run(list(records))
        assert (len(state.train_sample.entries), len(state.holdout_sample.offsets)) in ((1, 0), (0, 1))
        assert list(state.holdout_sample.offsets.values()) == ([2] if groups[1] == inside else [])


BOUNDED = msgspec.structs.replace(SMALL, run_examples=20)


@given(journals(), st.data())
@settings(max_examples=60, deadline=None)
def test_every_training_example_is_in_the_windows_of_one_promoted_trigger(
    journal: list[Record], data: st.DataObject
) -> None:
    """With bounded runs, verdicts of both kinds, and a burst; in the end everything has had its turn."""
    state, offset, triggers = fresh(BOUNDED), 0, dict[str, Trigger]()
    promoted_spans: list[tuple[int, int]] = []

    def append(record: Record) -> None:
        nonlocal state, offset
        offset += 1
        state, outputs = fold(state, [(offset, record)], policy=BOUNDED)
        triggers.update({trigger.id: trigger for trigger in of(Trigger, outputs)})

    def answer(promote: bool) -> None:
        asked = triggers[state.open_trigger.id]  # type: ignore[union-attr]
        bound = BOUNDED.run_examples * (1 + state.refusals)
        assert asked.examples <= bound or len(asked.spans) == 1
        if promote:
            promoted_spans.extend((span.start, span.end) for span in asked.spans)
            append(Promoted(trigger=asked.id, version=asked.version, time_ms=0))
        else:
            append(Refused(trigger=asked.id, version=asked.version, reason="worse", time_ms=0))

    examples = [record for record in journal if isinstance(record, Example)]
    for record in [*examples, *training(data.draw(st.integers(0, 90)), first=1_000)]:
        append(record)
        if state.open_trigger and data.draw(st.booleans()):
            answer(data.draw(st.booleans()))
    request = 0
    while state.open_trigger or state.pending_examples:
        if state.open_trigger:
            answer(True)
        else:
            request += 1
            append(Manual(request=f"last-{request}", reason="", time_ms=0))
    assert promoted_spans == sorted(promoted_spans)
    assert all(a[1] == b[0] for a, b in pairwise(promoted_spans))
    assert state.pending_labels == {}


def test_a_backlog_is_the_next_triggers_as_soon_as_the_one_before_is_answered() -> None:
    policy = msgspec.structs.replace(BOUNDED, cooldown_s=1e9, bootstrap_examples=60)
    state, outputs = run([tick(), *training(60)], policy)
    (first,) = of(Trigger, outputs)
    assert (first.examples, state.backlog_examples) == (20, 40)
    state, outputs = fold(state, [(100, Promoted(trigger=first.id, version="v0001", time_ms=0))])
    (second,) = of(Trigger, outputs)
    assert (second.reason, second.examples, second.spans[0].start) == ("backlog", 20, first.spans[-1].end)
    state, outputs = fold(state, [(101, Promoted(trigger=second.id, version="v0002", time_ms=0))])
    (third,) = of(Trigger, outputs)
    state, outputs = fold(state, [(102, Promoted(trigger=third.id, version="v0003", time_ms=0))])
    assert (third.examples, of(Trigger, outputs), state.pending_examples) == (20, [], 0)


def test_after_a_refusal_a_run_takes_the_refused_examples_and_as_many_more() -> None:
    state, outputs = run(training(100), msgspec.structs.replace(BOUNDED, bootstrap_examples=100))
    (first,) = of(Trigger, outputs)
    state, outputs = fold(state, [(200, Refused(trigger=first.id, version="v0001", reason="worse", time_ms=0))])
    assert not of(Trigger, outputs), "a backlog does not follow a refusal by itself"
    _, outputs = fold(state, [(201, Manual(request="r", reason="", time_ms=0))])
    (second,) = of(Trigger, outputs)
    assert (second.spans[0], second.examples) == (first.spans[0], 40)


def test_a_day_has_no_more_triggers_than_its_budget_and_a_refusal_in_a_row_opens_the_breaker() -> None:
    policy = msgspec.structs.replace(
        SMALL, retrains_per_day=2, breaker_refusals=2, breaker_pause_s=5 * 86_400.0, retrain_examples=10,
        bootstrap_examples=10,
    )  # fmt: skip
    state, offset, triggers = fresh(policy), 0, list[Trigger]()

    def append(*records: Record) -> None:
        nonlocal state, offset
        for record in records:
            offset += 1
            state, outputs = fold(state, [(offset, record)])
            triggers.extend(of(Trigger, outputs))

    append(tick())
    for day in range(4):
        for part in range(4):
            append(*training(10, "a", first=1_000 * day + 100 * part))
            if state.open_trigger:
                number = len(triggers)
                if number <= 4:
                    append(Promoted(trigger=triggers[-1].id, version=f"v{number}", time_ms=0))
                else:
                    append(Refused(trigger=triggers[-1].id, version=f"v{number}", reason="worse", time_ms=0))
        append(tick(1.1 * (day + 1)))
    assert Counter((trigger.at_ms - tick().time_ms) // 86_400_000 for trigger in triggers) == {0: 2, 1: 2, 2: 2}
    append(tick(9))
    assert len(triggers) == 7


def changed(version: str, request: str = "r") -> ChampionChange:
    return ChampionChange(version=version, action="promoted", by="ada", why="seen", request=request, time_ms=0)


def test_the_next_trigger_starts_from_the_version_that_a_person_chose() -> None:
    state, outputs = fold(promoted(), numbered(list(training(30, "a", first=50)), 92))
    (second,) = of(Trigger, outputs)
    state, _ = fold(state, [(200, Promoted(trigger=second.id, version="v0002", time_ms=0))])
    pending = state.pending_examples
    state, _ = fold(state, [(201, changed("v0001"))])
    assert (state.champion, state.pending_examples) == ("v0001", pending)
    state, outputs = fold(state, [(202, Manual(request="x", reason="", time_ms=0))])
    (third,) = of(Trigger, outputs)
    assert (third.parent, third.spans[0].start) == ("v0001", second.spans[-1].end)
    state, _ = fold(state, [(300, Promoted(trigger=third.id, version="v0003", time_ms=0)), (301, changed("v0001"))])
    assert state.champion == "v0003", "the same request again has no effect"


def test_the_windows_of_a_refused_version_that_a_person_promotes_are_no_longer_pending() -> None:
    state, outputs = fold(promoted(), numbered(list(training(30, "a", first=50)), 92))
    (second,) = of(Trigger, outputs)
    refused = Refused(trigger=second.id, version="v0002", reason="worse", time_ms=0)
    state, _ = fold(state, [(200, refused), *numbered(list(training(4, "a", first=100)), 201)])
    before, pending = state.champion_labels["a"], state.pending_examples
    state, _ = fold(state, [(300, changed("v0002"))])
    assert (state.champion, state.pending_examples) == ("v0002", pending - second.examples)
    assert state.pending_labels == {"a": pending - second.examples}
    assert state.champion_labels["a"] == before + second.examples


def _policy(policy: Policy) -> dict[str, Any]:
    return {name: getattr(policy, name) for name in policy.__struct_fields__}


def test_a_feed_of_endless_labels_makes_neither_the_outputs_nor_the_state_large() -> None:
    """Eight techniques with 20,000 tactics each closed a window that was larger than a message."""
    keys = [record.key for record in training(40)]
    hostile = [tuple(f"tactic-{n}-{i}" for i in range(20_000)) for n in range(8)] + [("x" * 400_000,)]
    labels = [("impact",)] * 3 + hostile + [("impact",)] * 28
    state, outputs = run([example(n, *labels[n], key=key) for n, key in enumerate(keys)])
    assert all(len(encode(output)) < MAX_RECORD_BYTES / 5 for output in outputs)
    assert len(snapshot(state)) < MAX_RECORD_BYTES
    (trigger,) = of(Trigger, outputs)
    assert (len(trigger.labels), trigger.examples) == (MAX_LABELS, 20)
    assert "impact" in trigger.labels


def test_windows_without_a_promotion_become_few_spans_and_a_promotion_takes_those_of_its_trigger() -> None:
    state = fresh(Policy(**{**_policy(SMALL), "window_examples": 1, "bootstrap_examples": 10**9}))
    offset, triggers = 0, list[Trigger]()

    def append(record: Record) -> None:
        nonlocal state, offset
        offset += 1
        state, outputs = fold(state, [(offset, record)])
        triggers.extend(of(Trigger, outputs))
        assert len(state.pending_spans) <= MAX_SPANS
        assert sum(span.examples for span in state.pending_spans) == state.pending_examples

    for number, record in enumerate(training(3 * MAX_SPANS)):
        append(record)
        if number % 400 == 399:
            append(Manual(request=str(number), reason="", time_ms=0))
        if number in (600, 1_000):
            append(Refused(trigger=triggers[-1].id, version="v", reason="worse", time_ms=0))
    append(Promoted(trigger=triggers[-1].id, version="v0003", time_ms=0))  # and the rest is enough for another
    assert [trigger.examples for trigger in triggers] == [400, 800, 1_200, 300]
    for trigger in triggers[:3]:
        assert [span.start for span in trigger.spans] == [0, *(span.end for span in trigger.spans[:-1])]
        assert len(trigger.spans) <= MAX_SPANS + 1
    assert state.pending_spans[0].start == triggers[2].spans[-1].end
