"""What names techniques has the tactics that ATT&CK gives these now, and is published again when they change."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from schemas.encoding import EncodedEvent, encode_event
from schemas.events import Event, Report, ReportSpan, Template
from schemas.journal import Source, held_out
from streams.core.projections.base import project
from streams.fetchers.base.labels import KnownTechnique, tactics_of, techniques_digest, with_tactics
from streams.fetchers.base.runner import fetch
from streams.fetchers.feeds import attack, registry, reports
from streams.fetchers.feeds.reports import parse_passages
from streams.fetchers.sources.file_tree import FileTree
from streams.settings import Settings
from tests.streams.fetchers.stix_bundles import technique, written

KNOWN = {
    "T1566": KnownTechnique(("initial-access",)),
    "T1562.001": KnownTechnique(("defense-evasion",), "T1685"),
    "T1685": KnownTechnique(("defense-impairment",)),
    "T1": KnownTechnique((), "T2"),
    "T2": KnownTechnique((), "T1"),
}


def report(*spans: ReportSpan, document: str = "d") -> Report:
    return Report(id="r:1", feed="r", document=document, name="R", text="They sent mail.", spans=spans)


def labelled(event: Event) -> Event:
    [outcome] = with_tactics([encode_event(event)], KNOWN)
    assert isinstance(outcome, EncodedEvent)
    return outcome.event


def test_a_revoked_technique_has_the_tactics_of_its_successor_and_a_circle_has_none() -> None:
    assert tactics_of("T1562.001", KNOWN) == ("defense-impairment",)
    assert tactics_of("T1", KNOWN) == ()


def test_a_template_with_tactics_of_its_own_keeps_them() -> None:
    own = Template(id="t", feed="f", name="T", techniques=("T1566",), tactics=("impact",))
    none = Template(id="t", feed="f", name="T", techniques=("T1566", "T1685", "T9"))
    assert labelled(own) == own
    assert getattr(labelled(none), "tactics", ()) == ("defense-impairment", "initial-access")


def test_a_passage_teaches_the_tactics_of_its_spans_and_is_on_the_side_of_its_report() -> None:
    phishing = ReportSpan(start=0, end=4, kind="technique", id="T1566")
    impact = ReportSpan(start=0, end=4, kind="tactic", name="Impact", tactics=("impact",))
    found = labelled(report(phishing, impact, ReportSpan(start=0, end=4, kind="group", id="G0001")))
    example = project("distilbert-mitre", found, Source("t", 0, 0))
    other = project("distilbert-mitre", labelled(report(phishing)), Source("t", 0, 1))
    assert example is not None
    assert other is not None
    assert (example.text, example.labels) == ("They sent mail.", ("impact", "initial-access"))
    assert held_out(example) == held_out(other)
    nothing = project("distilbert-mitre", report(phishing), Source("t", 0, 0))
    assert nothing is not None
    assert nothing.retracted


def test_the_digest_changes_with_any_tactic_and_not_with_the_order() -> None:
    assert techniques_digest(KNOWN) == techniques_digest(dict(reversed(KNOWN.items())))
    assert techniques_digest(KNOWN) != techniques_digest(KNOWN | {"T2": KnownTechnique(("impact",))})


def parse(data: bytes, path: str, release: str) -> list[Event]:
    return [msgspec.structs.replace(each, feed="labels-reports") for each in parse_passages(data, path, release)]


@pytest.fixture
def own_feeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The feeds under names of this test's own, so that no other test sees their events."""
    yours = reports.feed_of("reports")
    tree = FileTree(includes=lambda path: path.endswith(".jsonl"), parse=parse)
    spec = dataclasses.replace(yours, name="labels-reports", collection=tree)
    monkeypatch.setitem(registry.FEEDS, spec.name, spec)
    monkeypatch.setitem(registry.FEEDS, "labels-attack", attack.feed_of("enterprise-attack", "labels-attack"))


def test_a_report_is_published_again_when_attack_moves_its_technique(
    settings: Settings, bootstrap: str, tmp_path: Path, own_feeds: None
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/one.jsonl").write_text('{"text": "They moved it.", "techniques": ["T1777"]}\n')

    def fetch_reports() -> dict[str, int]:
        found = fetch("labels-reports", str(tmp_path / "mine"), settings, bootstrap).counts
        return {kind: count for kind, count in found.items() if count and kind != "absent"}

    def fetch_attack(tactic: str, modified: str) -> None:
        one = technique(777, tactics=(tactic,), modified=f"{modified}T00:00:00.000Z")
        fetch("labels-attack", written(tmp_path, one, name="excerpt.json"), settings, bootstrap)

    fetch_attack("execution", "2023-01-01")
    assert fetch_reports() == {"new": 1}
    assert fetch_reports() == {"unchanged": 1}
    fetch_attack("stealth", "2024-01-01")
    assert fetch_reports() == {"edited": 1}
    assert fetch_reports() == {"unchanged": 1}
