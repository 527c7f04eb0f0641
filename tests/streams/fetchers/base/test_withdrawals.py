"""What a full release or a commit no longer has is withdrawn, and what another feed has stays; on a real Kafka."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import TopicPartition

from schemas.encoding import EncodedEvent, decode_event
from schemas.events import Event, Technique
from schemas.journal import Source
from schemas.models import MODELS
from schemas.topics import EVENT_TOPICS
from streams.core.ontology import build_ontology
from streams.core.projections.base import project_all
from streams.fetchers.base.published_index import INDEX_FILE
from streams.fetchers.base.runner import FetchReport, fetch, parse_events
from streams.fetchers.feeds import attack, registry
from streams.settings import Settings
from tests.streams.fetchers.stix_bundles import Object, group, relationship, technique, thing, written
from transport import kafka as wire

_numbers = itertools.count()
LATER = {"modified": "2024-01-01T00:00:00.000Z"}
FIRST, SECOND = "enterprise-attack-17.1.json", "enterprise-attack-18.1.json"


@pytest.fixture
def base() -> int:
    """Where the numbers of a test's own objects begin: ids on the topics are not shared with other tests."""
    return 100 * next(_numbers) + 5_000


Run = Callable[..., FetchReport]


@pytest.fixture
def run(settings: Settings, bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: int) -> Run:
    """Fetches a bundle into a feed of this test, `a` or `b`."""

    def run(*objects: Object, name: str = SECOND, feed: str = "a") -> FetchReport:
        own = f"withdrawals-{base}-{feed}"
        monkeypatch.setitem(registry.FEEDS, own, attack.feed_of("enterprise-attack", own))
        return fetch(own, written(tmp_path, *objects, name=name), settings, bootstrap)

    return run


def on_topics(bootstrap: str, feed: str) -> list[Event]:
    """The events of feeds whose names begin like this, those of one partition in their order."""
    partitions = [TopicPartition(t.name, n) for t in EVENT_TOPICS for n in range(t.partitions)]
    with contextlib.closing(wire.consumer(bootstrap)) as reader:
        ranges = {partition: (0, wire.end_offset(reader, *partition)) for partition in partitions}
        found = [decode_event(m.value) for messages in wire.read_ranges(reader, ranges) for m in messages]
    return [encoded.event for encoded in found if encoded.event.feed.startswith(feed)]


def latest(bootstrap: str, base: int) -> dict[str, Event]:
    return {event.id: event for event in on_topics(bootstrap, f"withdrawals-{base}-")}


def nonzero(report: FetchReport) -> dict[str, int]:
    return {kind: count for kind, count in report.counts.items() if count}


def objects_of(base: int) -> tuple[Object, Object, Object, list[Object]]:
    """A group, two techniques that it uses, and the two relationships."""
    one, kept, gone = group(base), technique(base + 1), technique(base + 2)
    return one, kept, gone, [relationship(base + n, one, each) for n, each in enumerate((kept, gone))]


def learnt(events: list[Event]) -> dict[tuple[str, str], str]:
    """(model, key) -> hash of each example that counts after all events."""
    found: dict[tuple[str, str], str] = {}
    for event in events:
        for model, example in project_all(event, Source("", 0, 0), 0, MODELS).items():
            found.pop((model, example.key), None)
            if not example.retracted:
                found[model, example.key] = example.hash
    return found


def test_two_releases_one_after_the_other_leave_what_a_fresh_start_on_the_second_has(
    run: Run, bootstrap: str, base: int, settings: Settings, tmp_path: Path
) -> None:
    one, kept, gone, edges = objects_of(base)
    run(one, kept, gone, *edges, name=FIRST)
    report = run(one, kept, edges[0], technique(base + 3, **LATER))
    assert nonzero(report) == {"new": 1, "withdrawn": 2, "unchanged": 3}
    events = on_topics(bootstrap, f"withdrawals-{base}-")
    read = parse_events(f"withdrawals-{base}-a", str(tmp_path / SECOND), settings)
    fresh = [outcome.event for outcome in read if isinstance(outcome, EncodedEvent)]
    assert learnt(events) == learnt(fresh)
    assert build_ontology(events) == build_ontology(fresh)
    withdrawn = {e.id: e for e in events if e.status == "withdrawn"}
    assert set(withdrawn) == {f"T{1000 + base + 2}", edges[1]["id"]}
    last = withdrawn[f"T{1000 + base + 2}"]
    assert isinstance(last, Technique)
    assert (last.name, last.release, last.tactics) == (gone["name"], "18.1", ("execution",))
    again = run(one, kept, edges[0], technique(base + 3, **LATER), group(base + 9))
    assert nonzero(again) == {"new": 1, "unchanged": 4}


def test_what_was_withdrawn_and_comes_back_is_published_again(run: Run, bootstrap: str, base: int) -> None:
    one, kept, gone, edges = objects_of(base)
    run(one, kept, gone, *edges, name=FIRST)
    run(one, kept, edges[0])
    assert nonzero(run(one, kept, gone, *edges)) == {"edited": 2, "unchanged": 3}
    assert {event.status for event in latest(bootstrap, base).values()} == {"active"}


@pytest.mark.parametrize("lose_index", [False, True])
def test_a_partial_source_an_older_release_and_an_empty_one_withdraw_nothing(
    lose_index: bool, run: Run, settings: Settings, bootstrap: str, base: int
) -> None:
    one, kept, gone, edges = objects_of(base)
    newer = technique(base + 1, "Newer", **LATER)
    run(one, newer, gone, *edges)
    if lose_index:
        (settings.cursors_dir / INDEX_FILE).unlink()
    assert nonzero(run(one, newer, name="excerpt.json")) == {"unchanged": 2, "absent": 3}
    assert nonzero(run(one, kept, name=FIRST)) == {"unchanged": 1, "stale": 1, "absent": 3}
    assert nonzero(run(thing("identity", 1))) == {"absent": 5}
    assert {event.status for event in latest(bootstrap, base).values()} == {"active"}


def test_what_is_there_but_can_not_be_used_is_not_withdrawn_nor_are_its_relationships(
    run: Run, bootstrap: str, base: int
) -> None:
    one, kept, gone, edges = objects_of(base)
    run(one, kept, gone, *edges, name=FIRST)
    broken = gone | {"name": 7}
    report = run(one, kept, broken, *edges)
    assert nonzero(report) == {"unchanged": 3, "absent": 2}
    assert report.rejected == {"missing-end": 1, "wrong-type": 1}
    report = run(one, kept, *edges)
    assert (nonzero(report), report.rejected) == ({"unchanged": 3, "withdrawn": 2}, {"missing-end": 1})


def test_what_another_feed_still_has_stays_until_both_have_withdrawn_it(
    run: Run, bootstrap: str, base: int
) -> None:
    shared, own, other = group(base), technique(base + 1), technique(base + 2)
    run(shared, own, name=FIRST, feed="a")
    run(shared, other, name=FIRST, feed="b")
    assert nonzero(run(own, feed="b")) == {"new": 1, "withdrawn": 2}  # `other`, and what it shares
    found = latest(bootstrap, base)[shared["id"]]
    assert (found.feed, found.status, found.kept_by) == (
        f"withdrawals-{base}-b", "active", f"withdrawals-{base}-a",
    )  # fmt: skip
    assert nonzero(run(own, group(base + 5), feed="b")) == {"new": 1, "unchanged": 1}
    run(own, feed="a")
    assert latest(bootstrap, base)[shared["id"]].status == "withdrawn"
    assert latest(bootstrap, base)[f"T{1000 + base + 1}"].status == "active"


def of_domain(number: int, chain: str) -> Object:
    return technique(number, kill_chain_phases=[{"kill_chain_name": chain, "phase_name": "impact"}])


def test_a_bundle_of_several_domains_takes_nothing_back_from_another_feed(
    run: Run, settings: Settings, bootstrap: str, base: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enterprise, ics = of_domain(base + 1, "mitre-attack"), of_domain(base + 2, "mitre-ics-attack")
    run(enterprise, name=FIRST)
    feed = f"withdrawals-{base}-ics"
    monkeypatch.setitem(registry.FEEDS, feed, attack.feed_of("ics-attack", feed))
    report = fetch(feed, written(tmp_path, enterprise, ics, name="ics-attack.json"), settings, bootstrap)
    assert (nonzero(report), report.rejected, report.dead_letters) == ({"new": 1}, {"other-domain": 1}, 0)
    found = {e.id: e for e in latest(bootstrap, base).values() if isinstance(e, Technique)}
    assert {e.id: (e.domain, e.tactics) for e in found.values()} == {
        f"T{1000 + base + 1}": ("enterprise-attack", ("impact",)),
        f"T{1000 + base + 2}": ("ics-attack", ("impact",)),
    }


def git(root: Path, *words: str) -> None:
    author = ["-c", "user.name=x", "-c", "user.email=x@x.test"]
    subprocess.run(["git", "-C", str(root), *author, *words], check=True, capture_output=True)


def test_a_template_that_a_later_commit_renames_or_deletes_is_withdrawn(
    settings: Settings, bootstrap: str, base: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed, root = f"withdrawals-{base}-git", tmp_path / "upstream"
    spec = registry.FEEDS["nuclei-templates"]
    monkeypatch.setattr("streams.fetchers.feeds.nuclei.NAME", feed)
    monkeypatch.setitem(registry.FEEDS, feed, spec.__class__(**vars(spec) | {"name": feed}))
    root.mkdir()
    for name in ("stays", "renamed", "deleted", "breaks"):
        (root / f"{name}.yaml").write_text(f"id: {name}-{base}\ninfo:\n  name: x\n  severity: high\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "first")
    first = fetch(feed, root.as_uri(), settings, bootstrap)
    (root / "renamed.yaml").write_text(f"id: other-{base}\ninfo:\n  name: x\n  severity: high\n")
    (root / "breaks.yaml").write_text("id: [")
    (root / "deleted.yaml").unlink()
    git(root, "commit", "--quiet", "-a", "-m", "second")
    second = fetch(feed, root.as_uri(), settings, bootstrap)
    assert (nonzero(first), nonzero(second)) == (
        {"new": 4}, {"new": 1, "withdrawn": 2, "unchanged": 1, "absent": 1},
    )  # fmt: skip
    by_status = {(e.id.partition(":")[2], e.status) for e in latest(bootstrap, base).values()}
    assert by_status == {
        (f"stays-{base}", "active"), (f"breaks-{base}", "active"), (f"other-{base}", "active"),
        (f"renamed-{base}", "withdrawn"), (f"deleted-{base}", "withdrawn"),
    }  # fmt: skip
