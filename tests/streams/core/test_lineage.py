"""A lineage change leads to the state of the rebuild; what it leaves out counts no more, before it and after."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from schemas.errors import Corrupt
from schemas.exclusions import is_excluded
from schemas.journal import (
    Example,
    LineageChange,
    Promoted,
    Record,
    Refused,
    held_out,
    is_redelivery,
)
from schemas.windows import Trigger
from streams.core.backtest import Backtest
from streams.core.fold import Output, State, initial, restore, snapshot, step
from streams.core.lineage import Answer, Refold, follow, numbered_from
from tests.streams.core.records import SMALL, START_MS, example, tick
from tests.streams.core.test_backtest import HOUR_MS, MODEL, lived

ODD = ("feed=odd",)


def with_feeds(records: Sequence[Record]) -> list[Record]:
    """The same, where every other event is of the feed `odd`."""
    return [
        msgspec.structs.replace(
            r, source=msgspec.structs.replace(r.source, feed=("even", "odd")[r.source.offset % 2])
        )
        if isinstance(r, Example)
        else r
        for r in records
    ]


RECORDS = with_feeds(lived(SMALL, 5 * HOUR_MS, refuse=3))


def refolded(records: Sequence[Record], refuse: int = 1_002) -> Refold:
    """A rebuild without what is odd; one of its versions is refused."""

    def train(trigger: Trigger) -> Answer:
        answer = {"trigger": trigger.id, "version": trigger.version, "time_ms": 0}
        return Refused(**answer, reason="worse") if trigger.number == refuse else Promoted(**answer)  # type: ignore[arg-type]

    answered = {record.trigger for record in records if isinstance(record, Promoted | Refused)}
    refold = Refold(MODEL, train, answered.__contains__, ODD, 1_000)
    refold.run(enumerate(records), len(records))
    return refold


def lifted(records: Sequence[Record], end: int) -> LineageChange:
    """The change with which what is odd counts again, by a rebuild of the journal before an offset."""
    refold = Refold(MODEL, promoted, lambda _trigger: False, (), 2_000)
    refold.run(enumerate(records[:end]), end)
    return change_of(refold, end, exclusions=(), lifted=ODD, numbered_from=2_000, request="s")


def promoted(trigger: Trigger) -> Answer:
    return Promoted(trigger=trigger.id, version=trigger.version, time_ms=0)


def change_of(refold: Refold, end: int, **fields: object) -> LineageChange:
    values = {
        "version": [a.version for a in refold.answered if a.promoted][-1], "exclusions": ODD, "end": end,
        "numbered_from": 1_000, "answers": tuple(refold.answered), "by": "ada", "why": "poisoned", "request": "r",
        "time_ms": 1,
    }  # fmt: skip
    return LineageChange(**(values | fields))  # type: ignore[arg-type]


def followed(records: Sequence[Record], snapshots: bool = False) -> tuple[State, list[Output]]:
    state, outputs = initial(MODEL), list[Output]()
    for offset, record in enumerate(records):
        state, more = follow(state, offset, record, lambda end: enumerate(records[:end]))
        outputs += more
        if snapshots and offset % 50 == 0:
            state = restore(snapshot(state))
    return state, outputs


def named(state: State) -> set[int]:
    """The journal offsets in the samples of a state."""
    return {offset for offset, _ in state.train_sample.entries.values()} | set(
        state.holdout_sample.offsets.values()
    )


@pytest.mark.parametrize("end", range(101, len(RECORDS), 61))
def test_it_leads_to_the_state_of_the_rebuild_wherever_the_journal_ended(end: int) -> None:
    records = RECORDS[:end]
    refold = refolded(records)
    state, outputs = followed([*records, change_of(refold, end)])
    same = ("champion", "champion_labels", "train_sample", "holdout_sample", "corrections", "policy", "now_ms")
    assert [getattr(state, name) for name in same] == [getattr(refold.state, name) for name in same]
    assert state.lineage_from == 1_000
    assert not {at for at in named(state) if is_excluded(records[at], ODD)}  # type: ignore[arg-type]
    triggers = [each for each in outputs if isinstance(each, Trigger) and each.offset == end]
    pending = state.pending_examples - (state.open_trigger.examples if state.open_trigger else 0)
    assert pending + sum(t.examples for t in triggers) == refold.state.pending_examples


def test_after_it_each_example_that_is_left_is_trained_on_once_as_new_and_no_other() -> None:
    cut, end = len(RECORDS) // 2, len(RECORDS) * 2 // 3
    refold = refolded(RECORDS[:cut])
    change = change_of(refold, cut)
    promoted = {answer.version for answer in refold.answered if answer.promoted}
    spans = [span for trigger in refold.triggers for span in trigger.spans if trigger.version in promoted]
    records: list[Record] = [*RECORDS[:end], change]
    state, _ = followed(records)
    queue = [change, *(r for r in RECORDS[end:] if not isinstance(r, Promoted | Refused)), tick(1_000)]
    while queue or state.open_trigger:
        waiting = state.open_trigger
        if waiting:
            spans += waiting.spans
            queue.insert(0, Promoted(trigger=waiting.id, version=waiting.version, time_ms=0))
            assert (waiting.parent, waiting.number > 1_000) == (state.champion, True)
        records.append(queue.pop(0))
        state, _ = step(state, len(records) - 1, records[-1])
    left = trainable(records)
    trained = [at for span in spans for at in range(span.start, span.end) if at in left]
    assert len(trained) == len(set(trained)) == sum(span.examples for span in spans)
    assert len(left - set(trained)) == state.pending_examples
    assert len(spans) > len(promoted)


def trainable(records: Sequence[Record], exclusions: tuple[str, ...] = ODD) -> set[int]:
    """The offsets of the examples that are left to train on."""
    seen: dict[str, int] = {}
    return {
        at
        for at, record in enumerate(records)
        if isinstance(record, Example)
        and not is_redelivery(record.source, seen)
        and not held_out(record)
        and not is_excluded(record, exclusions)
    }


def test_a_state_from_a_snapshot_leads_to_the_same_and_a_second_delivery_changes_nothing() -> None:
    refold = refolded(RECORDS)
    change = change_of(refold, len(RECORDS))
    later = with_feeds([example(5_000 + n) for n in range(40)])
    once, outputs = followed([*RECORDS, change, *later, tick(900)])
    again, more = followed([*RECORDS, change, *later, tick(900)], snapshots=True)
    assert (snapshot(again), more) == (snapshot(once), outputs)
    state, _ = followed([*RECORDS, change])
    before = state.trigger_count, state.champion, list(state.pending)
    state, _ = follow(state, state.next_offset, change, lambda _end: pytest.fail("read again"))
    assert (state.trigger_count, state.champion, state.pending) == before


def test_what_is_left_out_is_left_out_of_later_windows_too() -> None:
    state, _ = followed([*RECORDS, change_of(refolded(RECORDS), len(RECORDS))])
    pending, seen = state.pending_examples, len(named(state))
    for number in range(5_001, 5_021, 2):
        (odd,) = with_feeds([example(number)])
        state, outputs = step(state, state.next_offset, odd)
        assert outputs == []
    assert (state.pending_examples, len(named(state))) == (pending, seen)
    assert state.source_offsets["threat.relationships.v1/0"][""] == 5_019, "the event is known as read"


@pytest.mark.parametrize("between", [0, 60])
def test_what_was_left_out_counts_again_from_the_beginning_and_what_came_in_between_too(between: int) -> None:
    out = change_of(refolded(RECORDS), len(RECORDS))
    meanwhile = with_feeds([example(5_000 + n) for n in range(60)])
    records: list[Record] = [*RECORDS, out, *meanwhile, tick(900)]
    back = lifted(records, len(RECORDS) + 1 + between)
    state, _ = followed([*records, back], snapshots=True)
    nothing = Refused(trigger="another", version="v", reason="", time_ms=0)
    never, _ = followed([*RECORDS, nothing, *meanwhile, tick(900), tick(900)])
    assert (state.exclusions, state.lineage_from, state.champion) == ((), 2_000, back.version)
    same = ("train_sample", "holdout_sample", "source_offsets", "now_ms")
    assert [getattr(state, name) for name in same] == [getattr(never, name) for name in same]
    assert {at for at in named(state) if is_excluded(records[at], ODD)}  # type: ignore[arg-type]


def test_after_a_lift_each_example_of_the_feed_is_trained_on_once_as_new() -> None:
    out = change_of(refolded(RECORDS), len(RECORDS))
    records: list[Record] = [*RECORDS, out, *with_feeds([example(5_000 + n) for n in range(60)])]
    refold = Refold(MODEL, promoted, lambda _trigger: False, (), 2_000)
    refold.run(enumerate(records), len(records))
    records.append(change_of(refold, len(records), exclusions=(), lifted=ODD, numbered_from=2_000, request="s"))
    state, _ = followed(records)
    spans = [span for trigger in refold.triggers for span in trigger.spans]
    later = [*with_feeds([example(6_000 + n) for n in range(300)]), *(tick(1_000 + n) for n in range(5))]
    while later or state.open_trigger:
        if waiting := state.open_trigger:
            spans += waiting.spans
            assert (waiting.parent, waiting.number > 2_000) == (state.champion, True)
        records.append(promoted(waiting) if waiting else later.pop(0))
        state, _ = step(state, len(records) - 1, records[-1])
    left = trainable(records, ())
    trained = [at for span in spans for at in range(span.start, span.end) if at in left]
    assert len(trained) == len(set(trained)) == sum(span.examples for span in spans)
    assert len(left - set(trained)) == state.pending_examples
    assert {at for at in trained if is_excluded(records[at], ODD)}  # type: ignore[arg-type]


def test_a_change_that_another_journal_led_to_is_corrupt() -> None:
    refold = refolded(RECORDS)
    with pytest.raises(Corrupt, match="was not made from this journal"):
        followed([*RECORDS[:100], *RECORDS[160:], change_of(refold, len(RECORDS) - 60)])
    with pytest.raises(Corrupt, match="leads to v"):
        followed([*RECORDS, change_of(refold, len(RECORDS), version="v1999")])


def test_a_backtest_reads_a_journal_with_a_lineage_change() -> None:
    records: list[Record] = [*RECORDS, change_of(refolded(RECORDS), len(RECORDS)), tick(900)]
    recorded = Backtest(MODEL, None, None, lambda end: enumerate(records[:end]))
    other = Backtest(MODEL, SMALL, HOUR_MS)
    for at, record in enumerate(records):
        recorded.feed(at, record)
        other.feed(at, record)
    assert recorded.state.lineage_from == 1_000
    assert other.state.exclusions == ODD
    assert other.state.now_ms > START_MS


def test_a_new_lineage_has_room_for_the_versions_that_come_meanwhile() -> None:
    assert all(500 <= numbered_from(latest) - latest <= 1_500 for latest in range(0, 9_000, 7))
