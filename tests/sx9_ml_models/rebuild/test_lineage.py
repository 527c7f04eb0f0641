"""What is taken out never reaches a window or a sample; what is not leads to the recorded triggers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas.errors import BadConfiguration
from schemas.exclusions import Exclusion, parse_exclusions
from schemas.journal import Example, Link, Promoted, Record, Refused, Source
from schemas.windows import Trigger
from streams.core.fold import fold, initial
from streams.core.lineage import Answer, Refold
from sx9_ml_models.rebuild.command import plan_of
from sx9_ml_models.rebuild.lineage import recorded_lineage
from sx9_ml_models.rebuild.remaining import RemainingJournal, end_at
from sx9_ml_models.rebuild.run import Rebuild
from sx9_ml_models.rebuild.scope import Plan, Scope
from tests.streams.core.records import DAY_MS, SMALL, START_MS
from tests.streams.core.test_backtest import HOUR_MS, MODEL, lived, triggers_of
from tests.trainers.samples import MemoryLog
from trainers.settings import load_trainer_settings


def no_feed(_source: Source) -> str:
    return ""


def remaining(records: Sequence[Record], *exclude: str) -> RemainingJournal:
    log = MemoryLog(records)
    return RemainingJournal(log, log.end(), parse_exclusions(exclude), lambda s: "odd" if s.offset % 2 else "even")


def refolded(journal: RemainingJournal, answered: Callable[[str], bool], refuse: int = 0) -> Refold:
    def train(trigger: Trigger) -> Answer:
        answer = {"trigger": trigger.id, "version": trigger.version, "time_ms": 0}
        return Refused(**answer, reason="worse") if trigger.number == refuse else Promoted(**answer)  # type: ignore[arg-type]

    refold = Refold(MODEL, train, answered)
    refold.run(journal.records(), journal.end())
    return refold


def answered_in(records: Sequence[Record]) -> Callable[[str], bool]:
    ids = {record.trigger for record in records if isinstance(record, Promoted | Refused)}
    return lambda trigger: trigger in ids


def test_if_nothing_matches_the_triggers_are_the_recorded_ones() -> None:
    records = lived(SMALL, 5 * HOUR_MS, refuse=3)
    journal = remaining(records, "entity=no-such-thing")
    assert refolded(journal, answered_in(records), refuse=3).triggers == triggers_of(records)
    assert not journal.excluded


def test_what_is_excluded_is_in_no_window_and_in_no_sample() -> None:
    records = lived(SMALL, 5 * HOUR_MS)
    journal = remaining(records, "feed=odd")
    found = refolded(journal, answered_in(records)).triggers
    odd = {at for at, r in enumerate(records) if isinstance(r, Example) and r.source.offset % 2}
    assert journal.excluded == odd
    assert 1 < len(found) < len(triggers_of(records))
    named = {at for t in found for at in t.rehearsal + t.holdout_old + t.holdout_recent}
    assert named
    assert not named & odd
    digests = ({span.digest for t in those for span in t.spans} for those in (found, triggers_of(records)))
    assert set.isdisjoint(*digests)
    without = [record for at, record in enumerate(records) if at not in odd]
    alone = refolded(remaining(without), lambda _: False).triggers
    assert [(t.reason, t.examples) for t in found][:2] == [(t.reason, t.examples) for t in alone][:2]


def test_the_lineage_of_a_version_is_its_ancestors_without_those_that_were_refused() -> None:
    records = lived(SMALL, 5 * HOUR_MS, refuse=2)
    everything = triggers_of(records)

    def history(end: int) -> list[tuple[int, Record]]:
        return list(enumerate(records[:end]))

    lineage, _ = recorded_lineage(MODEL, history, len(records), "v0004")
    assert [trigger.version for trigger in lineage] == ["v0001", "v0003", "v0004"]
    assert lineage == [everything[0], everything[2], everything[3]]
    state, _ = fold(initial(MODEL), enumerate(records))
    assert recorded_lineage(MODEL, history, len(records), "").triggers[-1].version == state.champion
    with pytest.raises(BadConfiguration, match="no trigger of v0099; it has v0001"):
        recorded_lineage(MODEL, history, len(records), "v0099")


def test_until_ends_the_journal_before_the_first_later_tick() -> None:
    records = lived(SMALL, 5 * HOUR_MS)
    end = end_at(MemoryLog(records), START_MS + 7 * DAY_MS)
    assert 0 < end < len(records)
    assert max(t.at_ms for t in triggers_of(records[:end])) <= START_MS + 7 * DAY_MS
    assert end_at(MemoryLog(records), START_MS + 900 * DAY_MS) == len(records)


@pytest.mark.parametrize(
    ("exclusion", "fields", "matches"),
    [
        ("entity=T1059", {"key": "technique:T1059"}, True),
        ("entity=T1059", {"key": "technique:T1059.001"}, False),
        ("entity=T1059", {"key": "relationship:r", "group": "technique:T1059"}, True),
        ("entity=nuclei:a", {"key": "template:nuclei:a"}, True),
        ("source=threat.templates.v1", {"key": "k"}, False),
        ("source=threat.techniques.v1/1", {"key": "k"}, True),
        ("source=threat.techniques.v1/1/2", {"key": "k"}, True),
        ("source=threat.techniques.v1/1/20", {"key": "k"}, False),
    ],
)
def test_an_exclusion_matches_what_comes_from_it(exclusion: str, fields: dict[str, str], matches: bool) -> None:
    example = Example(source=Source("threat.techniques.v1", 1, 2), hash="h", **fields)  # type: ignore[arg-type]
    (found,) = parse_exclusions([exclusion])
    assert found.matches(example, no_feed) is matches


def test_a_link_comes_from_both_of_its_ends() -> None:
    link = Link(source="G1", source_kind="group", relation="uses", target="T1", target_kind="technique")
    example = Example(source=Source("threat.relationships.v1", 1, 2), key="link:r", hash="h", link=link)
    assert all(Exclusion("entity", name).matches(example, no_feed) for name in ("G1", "T1", "r"))


@pytest.mark.parametrize("argument", ["feed", "feed=", "colour=red"])
def test_an_unknown_exclusion_is_an_error_with_the_known_forms(argument: str) -> None:
    with pytest.raises(BadConfiguration, match="must be feed=NAME, entity=ID or source="):
        parse_exclusions([argument])


def test_a_plan_names_a_version_or_an_exclusion() -> None:
    day = datetime(2024, 1, 2, tzinfo=UTC)
    assert plan_of(f"{MODEL}@v0002", day.replace(tzinfo=None), []).until_ms == day.timestamp() * 1000
    with pytest.raises(BadConfiguration, match="name the model alone"):
        plan_of(f"{MODEL}@v0002", None, ["entity=x"])
    with pytest.raises(BadConfiguration, match="no model 'nothing'"):
        plan_of("nothing", None, [])


def test_a_folder_holds_one_rebuild(tmp_path: Path) -> None:
    settings = load_trainer_settings(output_dir=tmp_path / "output")
    Rebuild(Plan(model=MODEL), Scope(end=0), remaining([]), tmp_path / "new", settings)
    Rebuild(Plan(model=MODEL), Scope(end=0), remaining([]), tmp_path / "new", settings)
    with pytest.raises(BadConfiguration, match="holds another rebuild"):
        Rebuild(
            Plan(model=MODEL, exclusions=("feed=odd",)), Scope(end=0), remaining([]), tmp_path / "new", settings
        )
