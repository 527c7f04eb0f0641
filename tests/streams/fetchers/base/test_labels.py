"""What names techniques has the tactics that ATT&CK gives these now, and is published again when they change."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from schemas.encoding import EncodedEvent, encode_event
from schemas.events import Event, NodeRef, Relationship, Report, ReportSpan, Template
from schemas.journal import Source, held_out
from streams.core.projections.base import project
from streams.fetchers.base import labels
from streams.fetchers.base.feed import LeftOut, UnchangedFile
from streams.fetchers.base.labels import OTHER_RELEASE, KnownTechnique, Release, in_current_words, techniques_digest
from streams.fetchers.base.runner import fetch
from streams.fetchers.feeds import attack, registry, reports
from streams.fetchers.feeds.reports import parse_passages
from streams.fetchers.sources.file_tree import FileTree
from streams.settings import Settings
from tests.streams.fetchers.stix_bundles import technique, written

KNOWN = {
    "T1566": KnownTechnique(("initial-access",)),
    "T1562.001": KnownTechnique(("defense-evasion",), "T1685", status="revoked"),
    "T1685": KnownTechnique(("defense-impairment",)),
    "T1": KnownTechnique((), "T2"),
    "T2": KnownTechnique((), "T1"),
}


def report(*spans: ReportSpan, document: str = "d") -> Report:
    return Report(id="r:1", feed="r", document=document, name="R", text="They sent mail.", spans=spans)


def labelled(event: Event) -> Event:
    [outcome] = in_current_words([encode_event(event)], KNOWN)
    assert isinstance(outcome, EncodedEvent)
    return outcome.event


def set_aside(event: Event) -> tuple[Event, str]:
    """An event in current words, and why its tactics are set aside."""
    found, left_out = in_current_words([encode_event(event)], KNOWN)
    assert isinstance(found, EncodedEvent)
    assert isinstance(left_out, LeftOut)
    return found.event, left_out.reason


def test_a_revoked_technique_has_the_tactics_of_its_successor_and_a_circle_has_none() -> None:
    assert Release(KNOWN).tactics_of("T1562.001") == ("defense-impairment",)
    assert Release(KNOWN).tactics_of("T1") == ()


def test_a_template_with_tactics_of_its_own_keeps_them() -> None:
    own = Template(id="t", feed="f", name="T", techniques=("T1566",), tactics=("defense-impairment",))
    none = Template(id="t", feed="f", name="T", techniques=("T1566", "T1685", "T9"))
    assert labelled(own) == own
    assert getattr(labelled(none), "tactics", ()) == ("defense-impairment", "initial-access")


def rule(*tactics: str, techniques: tuple[str, ...] = ()) -> Template:
    return Template(id="t", feed="f", name="T", severity="high", techniques=techniques, tactics=tactics)


def test_a_rule_of_another_release_has_the_tactics_of_its_techniques_under_their_ids_of_now() -> None:
    behind = labelled(rule("defense-evasion", techniques=("T1562.001",)))
    assert behind == rule("defense-impairment", techniques=("T1685",))
    ahead = labelled(rule("initial-foothold", "defense-impairment", techniques=("T1566",)))
    assert ahead == rule("initial-access", techniques=("T1566",))


def test_tactics_of_another_release_are_set_aside_if_a_technique_is_not_known_and_the_rest_is_learnt() -> None:
    for techniques in ((), ("T1566", "T9")):
        found, reason = set_aside(rule("initial-access", "stealth", techniques=techniques))
        assert (found, reason) == (rule(techniques=tuple(sorted(techniques))), OTHER_RELEASE)
        example = project("distilbert-mitre", found, Source("t", 0, 0))
        assert example is not None
        assert example.labels == ("severity:high",)


def test_what_is_set_aside_is_counted_again_while_its_file_does_not_change() -> None:
    first = in_current_words([encode_event(rule("stealth"))], KNOWN)
    before = labels.set_aside(first)
    again = in_current_words([UnchangedFile("t"), UnchangedFile("other")], KNOWN, before)
    assert (before, labels.set_aside(again), len(again)) == (("f:t",), before, 3)
    assert labels.set_aside(in_current_words([UnchangedFile("other")], KNOWN, before)) == ()


def test_without_any_technique_on_the_topic_nothing_is_another_release() -> None:
    assert in_current_words([before := encode_event(rule("stealth"))], {}) == [before]


def test_a_technique_that_was_deprecated_before_a_tactic_was_split_gives_no_dead_label() -> None:
    known = KNOWN | {"T3": KnownTechnique(("impact", "defense-impairment"), status="deprecated")}
    assert Release(known).tactics_of("T3") == ("defense-impairment",)


def test_a_tactic_of_a_passage_that_attack_has_no_more_is_told_by_its_techniques_or_set_aside() -> None:
    dead = ReportSpan(start=0, end=4, kind="tactic", name="Defense Evasion", tactics=("defense-evasion",))
    told = labelled(report(dead, ReportSpan(start=0, end=4, kind="technique", id="T1562.001")))
    assert isinstance(told, Report)
    assert [(span.id, span.tactics) for span in told.spans] == [("", ()), ("T1685", ("defense-impairment",))]
    found, reason = set_aside(report(dead))
    assert isinstance(found, Report)
    assert ([span.tactics for span in found.spans], reason) == ([()], OTHER_RELEASE)


def test_a_relationship_to_a_technique_that_was_replaced_goes_to_its_successor() -> None:
    old, group = NodeRef(id="T1562.001", kind="technique", status="revoked"), NodeRef(id="g", kind="group")
    found = labelled(Relationship(id="r", feed="f", relation="uses", source=group, target=old))
    assert isinstance(found, Relationship)
    assert (found.target.id, found.target.tactics, found.target.status) == (
        "T1685",
        ("defense-impairment",),
        "active",
    )


def test_a_passage_teaches_the_tactics_of_its_spans_and_is_on_the_side_of_its_report() -> None:
    phishing = ReportSpan(start=0, end=4, kind="technique", id="T1566")
    impact = ReportSpan(start=0, end=4, kind="tactic", name="Impact", tactics=("defense-impairment",))
    found = labelled(report(phishing, impact, ReportSpan(start=0, end=4, kind="group", id="G0001")))
    example = project("distilbert-mitre", found, Source("t", 0, 0))
    other = project("distilbert-mitre", labelled(report(phishing)), Source("t", 0, 1))
    assert example is not None
    assert other is not None
    assert (example.text, example.labels) == ("They sent mail.", ("defense-impairment", "initial-access"))
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
