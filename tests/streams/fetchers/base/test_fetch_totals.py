"""What a fetch says of itself: its size, contradictions of labels, and near-duplicates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from schemas.encoding import EncodedEvent, encode_event
from schemas.events import Template
from schemas.fetch_totals import FetchTotals
from schemas.journal import Example, Source
from schemas.policy import QuarantineRules
from schemas.topics import topic_of
from streams.core.quarantine import Quarantine, judged
from streams.fetchers.base.diff import PUBLISHED_KINDS, ChangeKind, kind_of
from streams.fetchers.base.entries import Entry, entry_of
from streams.fetchers.base.fetch_totals import fetch_totals, min_hash
from streams.fetchers.base.runner import parse_events
from streams.settings import load_settings

ATTACK = next(
    (p / "shared/feeds/attack" for p in Path(__file__).resolve().parents if (p / "shared").is_dir()), Path("-")
)
RELEASES = ("15.1", "16.1", "17.1")


def rule(number: int, text: str = "", *tactics: str, severity: str = "high") -> Template:
    return Template(
        id=f"sigma:{number}", feed="sigma", name=f"Rule {number}", text=text, tactics=tactics, severity=severity
    )


def totals(now: list[Template], before: list[Template]) -> FetchTotals:
    published: dict[str, dict[str, Entry]] = {}
    for event in before:
        published.setdefault(topic_of(event).name, {})[event.id] = entry_of(encode_event(event))
    return fetch_totals([(encode_event(event), "edited") for event in now], published)


def test_the_first_fetch_of_a_feed_says_only_its_size() -> None:
    same = "The very same words about the very same thing"
    assert totals([rule(n, same) for n in range(9)], []) == FetchTotals(9)


def test_a_contradiction_in_labels_that_the_feed_used_before_counts_and_a_new_taxonomy_does_not() -> None:
    before = [rule(1, "", "impact"), rule(2, "", "execution"), rule(3, "", "impact", severity="low"), rule(4)]
    now = [
        rule(1, "", "execution"),
        rule(2, "", "stealth"),  # a tactic that is new
        rule(3, "", "impact", severity="high"),
        msgspec.structs.replace(rule(4, "", "impact"), status="revoked"),
        rule(5, "", "impact"),  # not known before
    ]
    assert totals(now, before) == FetchTotals(5, known=4, relabelled=2)


def test_near_duplicates_are_counted_whatever_ids_and_numbers_are_in_them() -> None:
    copies = [rule(n, f"Detects that process {n * 7919} was started by the service host") for n in range(30)]
    other = [rule(100 + n, " ".join(chr(97 + (n + at) % 26) * 3 for at in range(12))) for n in range(9)]
    assert totals([*copies, *other], [rule(500)]).alike == 30


def test_short_texts_are_not_compared() -> None:
    assert min_hash("Detects one thing") == 0


def releases() -> Iterator[FetchTotals]:
    """The totals of three releases of ATT&CK, fetched one after the other."""
    published: dict[str, dict[str, Entry]] = {}
    for release in RELEASES:
        path = str(ATTACK / f"enterprise-attack-{release}.json")
        changes: list[tuple[EncodedEvent, ChangeKind]] = []
        for found in parse_events("attack-enterprise", path, load_settings()):
            if isinstance(found, EncodedEvent):
                entries = published.get(topic_of(found.event).name, {})
                kind = kind_of(entry_of(found), entries.get(found.event.id), batch_is_older=False)
                changes += [(found, kind)] if kind in PUBLISHED_KINDS else []
        yield fetch_totals(changes, published)
        for encoded, _ in changes:
            published.setdefault(topic_of(encoded.event).name, {})[encoded.event.id] = entry_of(encoded)


@pytest.mark.skipif(not ATTACK.is_dir(), reason=f"needs {ATTACK}")
def test_the_defaults_set_aside_nothing_of_the_releases_of_attack() -> None:
    quarantine, found = Quarantine(), list(releases())
    for number, one in enumerate(found):
        source = Source("threat.techniques.v1", 0, number, feed="attack-enterprise", fetch=one)
        example = Example(source=source, key=f"technique:{number}", hash="", observed_ms=number + 1)
        assert judged(quarantine, example, QuarantineRules(), 0) == example
    assert [one.known > 0 for one in found] == [False, True, True]
    assert max(one.relabelled / one.known for one in found[1:]) < QuarantineRules().relabelled_share / 5
    assert max(one.alike / one.events for one in found[1:]) < QuarantineRules().alike_share / 5
