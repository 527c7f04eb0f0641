"""The benchmark of reports: no dev report is among what is learnt."""

from __future__ import annotations

from benchmarks.reports import DEV, divided
from schemas.encoding import encode_event
from schemas.events import Event, Report
from streams.fetchers.base.feed import LeftOut, Outcome
from tests.streams.content.ontology.events import technique


def passage(document: str, number: int) -> Report:
    return Report(
        id=f"{document}:{number}", feed="annoctr", release="", document=document, name="n", text=f"Said {number}."
    )


def test_the_passages_of_the_dev_reports_are_tested_on_and_all_others_are_learnt() -> None:
    dev, other = sorted(DEV)[3], "annoctr:lab52_2019-04-02_wirte-group-attacking-the-middle"
    events: list[Event] = [passage(dev, 1), passage(other, 2), passage(dev, 3), technique("T1059", "Shell")]
    outcomes: list[Outcome] = [*map(encode_event, events), LeftOut("x", "empty")]
    found = [[each.event.id for each in part] for part in divided(outcomes)]  # type: ignore[union-attr]
    assert found == [[f"{other}:2"], [f"{dev}:1", f"{dev}:3"]]
    assert len(DEV) == 16
