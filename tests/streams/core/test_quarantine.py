"""What a feed suddenly sends otherwise than usual is set aside, by a pure function of the log."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.fetch_totals import FetchTotals
from schemas.journal import (
    Example,
    ExampleScore,
    Held,
    QuarantineSettled,
    QuarantineVerdict,
    Record,
    Score,
    SeenOffsets,
    Source,
    Tick,
)
from schemas.policy import Policy, QuarantineRules
from streams.core.backtest import Backtest
from streams.core.fold import State, fold, restore, snapshot, step
from streams.core.quarantine import HISTORY, MAX_FEEDS, MAX_VERDICTS, Quarantine, apply, judged
from tests.streams.core.records import SMALL

RULES = QuarantineRules(
    burst_events=20,
    burst_fetches=3,
    relabelled_share=0.1,
    relabelled_events=5,
    alike_events=5,
    loss_excess=3.0,
    loss_events=4,
)
TOPIC, MODEL = "threat.templates.v1", "distilbert-mitre"


def example(
    offset: int, fetch: int, totals: FetchTotals | None, feed: str = "sigma", partition: int = 0
) -> Example:
    source = Source(TOPIC, partition, offset, 1_600_000_000_000, "id-1", feed, totals)
    return Example(
        source=source, key=f"{feed}:{offset}", hash=f"{offset:016x}", text="t", labels=("a",), observed_ms=fetch
    )


def decisions(*fetches: FetchTotals, rules: QuarantineRules = RULES) -> list[str]:
    """The decision about the first event of each fetch of a feed: empty, or the reason."""
    quarantine = Quarantine()
    records = [judged(quarantine, example(n, n + 1, one), rules, 0) for n, one in enumerate(fetches)]
    return [record.reason if isinstance(record, Held) else "" for record in records]


USUAL = [FetchTotals(2, known=100)] * 3


@pytest.mark.parametrize(
    ("fetch", "reason"),
    [
        (FetchTotals(19, known=100), ""),
        (FetchTotals(20, known=100), "burst"),
        (FetchTotals(5, known=100, relabelled=9), ""),
        (FetchTotals(5, known=100, relabelled=10), "relabelled"),
        (FetchTotals(10, known=30, relabelled=4), ""),
        (FetchTotals(12, known=100, alike=5), ""),
        (FetchTotals(10, known=100, alike=5), "near-duplicates"),
        (FetchTotals(4, known=100, alike=4), ""),
    ],
)
def test_the_first_event_of_a_fetch_is_set_aside_if_the_whole_fetch_is_beyond_a_limit(
    fetch: FetchTotals, reason: str
) -> None:
    assert decisions(*USUAL, fetch) == ["", "", "", reason]


def test_the_first_fetch_of_a_feed_and_one_after_too_few_are_never_a_burst() -> None:
    large = FetchTotals(100_000, known=100)
    assert decisions(FetchTotals(100_000)) == [""]
    assert decisions(*USUAL[:2], large) == ["", "", ""]
    assert decisions(*USUAL, large)[-1] == "burst"


def test_a_large_first_fetch_does_not_hide_a_burst_that_comes_later() -> None:
    assert decisions(FetchTotals(100_000), *USUAL, FetchTotals(20, known=9))[-1] == "burst"


def test_a_rule_of_which_the_limit_is_0_never_fires() -> None:
    off = QuarantineRules(burst_factor=0, relabelled_share=0, alike_share=0)
    assert decisions(*USUAL * 2, FetchTotals(10**6, 9, 10**6, 10**6), rules=off)[-1] == ""


def test_events_without_totals_are_counted_as_they_come() -> None:
    quarantine, offsets = Quarantine(), count()
    for fetch in (1, 2, 3):
        judged(quarantine, example(next(offsets), fetch, None), RULES, 0)
    burst = [judged(quarantine, example(next(offsets), 4, None), RULES, 0) for _ in range(25)]
    assert [isinstance(record, Held) for record in burst] == [False] * 19 + [True] * 6


def test_the_totals_of_a_fetch_are_not_compared_with_counts_in_one_partition() -> None:
    quarantine = Quarantine()
    for n in range(4):
        judged(quarantine, example(n, n + 1, None), RULES, 0)
    large = [judged(quarantine, example(n, n + 1, FetchTotals(900, known=9)), RULES, 0) for n in range(5, 9)]
    assert [isinstance(record, Held) for record in large] == [False] * 4


def test_what_comes_after_it_from_the_feed_waits_too_and_other_feeds_do_not() -> None:
    quarantine = Quarantine()
    for n, totals in enumerate([*USUAL, FetchTotals(50, known=9)]):
        judged(quarantine, example(n, n + 1, totals), RULES, 0)
    later = judged(quarantine, example(9, 9, FetchTotals(1, known=9)), RULES, 0)
    assert isinstance(later, Held)
    assert (later.reason, quarantine.waiting()) == ("following", {("sigma", "burst"): 2})
    other = judged(quarantine, example(10, 9, FetchTotals(1, known=9), "nuclei-templates"), RULES, 0)
    assert isinstance(other, Example)


class Log:
    """A journal, written as the journal role writes it: judged, and settled at each verdict."""

    def __init__(self) -> None:
        self.quarantine = Quarantine()
        self.seen: dict[str, SeenOffsets] = {}
        self.records: list[Record] = []

    def write(self, record: Any) -> int:
        offset = len(self.records)
        self.records.append(record)
        if not isinstance(record, Tick):
            apply(self.quarantine, self.seen, offset, record)
        return offset

    def event(self, found: Example) -> None:
        mine = copy.deepcopy(self.quarantine)
        record = judged(mine, found, RULES, len(self.records))
        self.write(record)
        assert mine.watches == self.quarantine.watches, (
            "what is noted when it is judged is what is noted when it is read"
        )

    def verdict(self, action: Any, keys: Sequence[str] = (), feed: str = "sigma") -> None:
        verdict = QuarantineVerdict(
            feed=feed, action=action, by="me", why="w", request="r", time_ms=0, keys=tuple(keys)
        )
        at = self.write(verdict)
        for name, of_feed, hold in self.quarantine.holds():
            if of_feed != feed:
                continue
            found = [
                (offset, r)
                for offset, r in enumerate(self.records[: at + 1])
                if isinstance(r, Held) and r.example.source.feed == feed and offset >= hold.start
                and f"{r.example.source.topic}/{r.example.source.partition}" == name
            ]  # fmt: skip
            counts = {"released": 0, "purged": 0, "kept": 0}
            for offset, r in found:
                moved = msgspec.structs.replace(
                    r.example, source=msgspec.structs.replace(r.example.source, held=offset)
                )
                if keys and r.example.key not in keys:
                    counts["kept"] += 1
                    self.write(msgspec.structs.replace(r, example=moved))
                else:
                    counts["released" if action == "release" else "purged"] += 1
                    if action == "release":
                        self.write(moved)
            topic, _, number = name.rpartition("/")
            self.write(QuarantineSettled(topic=topic, partition=int(number), feed=feed, verdict=at, **counts))

    def numbered(self) -> list[tuple[int, Record]]:
        return list(enumerate(self.records))

    def learnable(self) -> list[int]:
        """Event offsets of the examples, in order."""
        return [r.source.offset for r in self.records if isinstance(r, Example)]


def burst(log: Log, *, first: int = 0) -> None:
    """Three usual fetches, then one of 30 events."""
    offsets = count(first)
    for fetch in (1, 2, 3):
        log.event(example(next(offsets), first + fetch, FetchTotals(2, known=9)))
    for _ in range(30):
        log.event(example(next(offsets), first + 4, FetchTotals(30, known=9)))


def test_what_is_held_is_in_no_window_sample_or_trigger_and_what_is_released_is_once_and_in_order() -> None:
    log = Log()
    burst(log)
    held, _ = fold(State(model=MODEL, policy=SMALL), log.numbered())
    assert (held.window.examples + held.window.holdout, log.learnable()) == (3, [0, 1, 2])
    assert len(held.train_sample.before(10**9)) + len(held.holdout_sample.offsets) == 3
    log.verdict("release", [f"sigma:{n}" for n in (20, 7, 8)])
    log.verdict("purge")
    assert log.learnable() == [0, 1, 2, 7, 8, 20]
    state, _ = fold(State(model=MODEL, policy=SMALL), log.numbered())
    assert state.window.examples + state.window.holdout == 6
    assert (state.quarantine.released, state.quarantine.purged, state.quarantine.holds()) == (3, 27, [])
    again, _ = fold(state, [(state.next_offset + n, record) for n, record in log.numbered()])
    assert again.window.examples + again.window.holdout == 6, "all of it is delivered once more"


def test_after_a_release_the_rest_of_the_fetch_passes_and_after_a_purge_it_waits() -> None:
    for action, passes in (("release", True), ("purge", False)):
        log = Log()
        burst(log)
        log.verdict(action)
        log.event(example(50, 4, FetchTotals(30, known=9)))
        assert isinstance(log.records[-1], Example) is passes


def test_what_a_person_lets_pass_is_usual_from_then_on_and_what_is_purged_is_not() -> None:
    for action, sizes in (("release", [2, 2, 2, 30]), ("purge", [2, 2, 2])):
        log = Log()
        burst(log)
        log.verdict(action)
        (watch,) = log.quarantine.watches[f"{TOPIC}/0"].values()
        assert watch.sizes == sizes


def scores(losses: dict[int, float], *, reference: bool = False, version: str = "v0001") -> Score:
    each = tuple(ExampleScore(offset=offset, losses={"tactics": loss}) for offset, loss in losses.items())
    return Score(trigger="", version=version, examples=len(each), each=each, reference=reference)


def scored(losses: dict[str, float]) -> Log:
    """A champion with losses of 1.0 on average on its holdout, and the given ones on 60 events of each feed."""
    log, at = Log(), dict[int, float]()
    log.write(scores({n: 0.9 + 0.2 * (n % 2) for n in range(100)}, reference=True))
    for partition, (feed, loss) in enumerate(losses.items()):
        for n in range(60):
            log.event(example(n, 1, FetchTotals(60), feed, partition))
            at[len(log.records) - 1] = loss
    log.write(scores(at))
    return log


def next_events(log: Log, *feeds: str) -> list[str]:
    """The decisions about the next fetch of each feed."""
    for partition, feed in enumerate(feeds):
        log.event(example(100 + len(log.records), 2, FetchTotals(1, known=60), feed, partition))
    found = log.records[-len(feeds) :]
    return [record.reason if isinstance(record, Held) else "" for record in found]


def test_a_feed_on_which_the_champion_is_far_worse_than_on_the_others_is_set_aside_until_a_person_decides() -> None:
    log = scored({"nuclei": 1.0, "sigma": 1.5, "atomic": 1.05})
    assert next_events(log, "nuclei", "sigma", "atomic") == ["", "losses", ""]
    log.verdict("release")
    assert next_events(log, "nuclei", "sigma") == ["", ""], "it begins anew"


def test_a_champion_that_is_bad_on_all_feeds_alike_or_was_replaced_since_sets_none_aside() -> None:
    assert next_events(scored({"nuclei": 1.5, "sigma": 1.5}), "nuclei", "sigma") == ["", ""]
    log = scored({"nuclei": 1.0, "sigma": 1.5})
    log.write(scores({200: 1.0}, reference=True, version="v0002"))
    assert next_events(log, "nuclei", "sigma") == ["", ""]


def test_too_few_scores_and_losses_that_are_no_numbers_say_nothing() -> None:
    log = Log()
    log.write(scores({n: 1.0 + n % 2 for n in range(30)}, reference=True))
    for n in range(60):
        log.event(example(n, 1, FetchTotals(60), ("sigma", "nuclei")[n % 2], n % 2))
    log.write(scores({n: float("nan") if n % 3 else 9.0 for n in range(1, 60, 2)}))
    assert next_events(log, "nuclei", "sigma") == ["", ""]


FETCH = st.builds(FetchTotals, st.integers(1, 60), st.integers(0, 90), st.integers(0, 20), st.integers(0, 30))
STEP = st.one_of(
    st.tuples(st.sampled_from(("sigma", "nuclei")), st.one_of(st.none(), FETCH), st.integers(1, 8)),
    st.sampled_from(("release", "purge", "tick", "score")),
)


def written(steps: Sequence[Any]) -> Log:
    log, offsets = Log(), [count(), count()]
    for fetch, one in enumerate(steps, 1):
        if one == "tick":
            log.write(Tick(fetch))
        elif one == "score":
            log.write(scores({fetch * 50 + n: 1.0 + n % 2 for n in range(40)}, reference=True))
            came = {n: r.source.feed for n, r in enumerate(log.records) if isinstance(r, Example)}
            log.write(scores({n: 1.5 if feed == "nuclei" else 9.0 for n, feed in came.items()}))
        elif isinstance(one, str):
            log.verdict(one)
        else:
            feed, totals, events = one
            for n in range(events):
                log.event(example(next(offsets[n % 2]), fetch, totals, feed, n % 2))
    return log


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, max_size=25), st.data())
def test_a_replay_from_any_snapshot_decides_the_same(steps: list[Any], data: st.DataObject) -> None:
    log = written(steps)
    records = log.numbered()
    at = data.draw(st.integers(0, len(records)))
    state, _ = fold(State(model=MODEL, policy=SMALL), records[:at])
    state, _ = fold(restore(snapshot(state)), records[at:])
    assert state.quarantine == log.quarantine
    assert [r for r in judged_again(records) if r] == []


@pytest.mark.parametrize("policy", [None, SMALL], ids=["recorded rules", "other rules"])
def test_a_backtest_holds_and_releases_what_the_log_says(policy: Policy | None) -> None:
    log = Log()
    burst(log)
    log.verdict("release", [f"sigma:{n}" for n in range(5, 15)])
    log.verdict("purge")
    backtest = Backtest(MODEL, policy, 0)
    for offset, record in log.numbered():
        backtest.feed(offset, record)
    assert backtest.state.quarantine == log.quarantine
    assert backtest.state.pending_examples == fold(State(model=MODEL), log.numbered())[0].pending_examples > 5


def judged_again(records: Sequence[tuple[int, Record]]) -> Iterator[str]:
    """Records that are judged otherwise by the log before them."""
    state = State(model=MODEL, policy=SMALL)
    for offset, record in records:
        found = record.example if isinstance(record, Held) else record
        if isinstance(found, Example) and found.source.held < 0:
            again = judged(copy.deepcopy(state.quarantine), found, RULES, offset)
            yield "" if again == record else f"{offset}: {again} is not {record}"
        state, _ = step(state, offset, record)


def test_the_state_does_not_grow_with_the_feeds_fetches_and_verdicts_of_a_log() -> None:
    quarantine, seen = Quarantine(), dict[str, SeenOffsets]()
    for n in range(3_000):
        record = judged(copy.copy(quarantine), example(n, n + 1, FetchTotals(3, 9), f"feed-{n % 200}"), RULES, n)
        apply(quarantine, seen, n, record)
        apply(quarantine, seen, n, verdict(f"feed-{n % 200}"))
    (feeds,) = quarantine.watches.values()
    assert len(feeds) == MAX_FEEDS + 1
    assert max(len(watch.sizes) for watch in feeds.values()) == HISTORY
    assert len(quarantine.verdicts) <= MAX_VERDICTS


def verdict(feed: str) -> QuarantineVerdict:
    return QuarantineVerdict(feed=feed, action="release", by="me", why="w", request="r", time_ms=0)


def test_a_policy_record_without_rules_of_quarantine_means_the_defaults() -> None:
    old = msgspec.json.decode(msgspec.json.encode(Policy()))
    del old["quarantine"]
    assert msgspec.convert(old, Policy) == Policy()
