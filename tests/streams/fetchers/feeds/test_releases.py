"""Three releases of ATT&CK in order: what is published is what a comparison of the raw JSON says has changed."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition

from schemas.encoding import EncodedEvent, encode_event
from schemas.events import Event
from schemas.topics import ENTITIES, EVENT_TOPICS, RELATIONSHIPS, TECHNIQUES
from streams.fetchers.base import runner
from streams.fetchers.base.entries import entry_of
from streams.fetchers.feeds import attack, registry
from streams.settings import load_settings
from transport import kafka as wire
from transport.records import decoded
from transport.topics import create_topics

FOLDER = Path(__file__).resolve().parents[5] / "shared/feeds/attack"
RELEASES = ("15.1", "16.1", "17.1")
ABOUT_THE_BUNDLE = {"identity", "marking-definition", "x-mitre-collection"}

Raw = dict[str, dict[str, Any]]


def raw(release: str) -> Raw:
    text = (FOLDER / f"enterprise-attack-{release}.json").read_text()
    return {o["id"]: o for o in json.loads(text)["objects"] if o["type"] not in ABOUT_THE_BUNDLE}


def said(found: dict[str, Any], everything: Raw) -> Any:
    """What an object itself says, in the fields that an event has."""
    replaced = [
        r["target_ref"]
        for r in everything.get("_revoked_by", {}).get(found["id"], ())
        if found.get("revoked")
    ]  # fmt: skip
    fields = ("name", "description", "created", "relationship_type", "x_mitre_detection", "x_mitre_shortname")
    return (
        *(found.get(field, "") for field in fields),
        tuple(found.get("x_mitre_platforms", ())) if found["type"] == "attack-pattern" else (),
        other_names(found),
        external_id(found),
        tactics(found),
        status(found),
        tuple(replaced),
    )


def other_names(found: dict[str, Any]) -> tuple[str, ...]:
    names = found.get("aliases", []) + found.get("x_mitre_aliases", [])
    return tuple(sorted({name for name in names if name != found["name"]}))


def external_id(found: dict[str, Any]) -> str:
    references = found.get("external_references", ())
    return next((r["external_id"] for r in references if r["source_name"] == "mitre-attack"), "")


def tactics(found: dict[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(phase["phase_name"] for phase in found.get("kill_chain_phases", ())))


def status(found: dict[str, Any]) -> str:
    return "revoked" if found.get("revoked") else "deprecated" if found.get("x_mitre_deprecated") else "active"


def end(ref: str, everything: Raw) -> Any:
    found = everything[ref]
    return found["id"], found["name"], tactics(found), status(found)


def ends(found: dict[str, Any], everything: Raw) -> Any:
    return end(found["source_ref"], everything), end(found["target_ref"], everything)


def with_replacements(everything: Raw) -> Raw:
    replaced: dict[str, Any] = {}
    for found in everything.values():
        if found.get("relationship_type") == "revoked-by":
            replaced.setdefault(found["source_ref"], []).append(found)
    return everything | {"_revoked_by": replaced}


def kinds(before: Raw, now: Raw, spoken: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(kind of change, STIX type) of each object; `spoken` is what was last published, and is kept up."""
    for name, found in now.items():
        if name == "_revoked_by":
            continue
        is_edge = found["type"] == "relationship"
        words = (said(found, now), ends(found, now) if is_edge else ())
        yield kind(words, spoken.get(name), found, before.get(name)), found["type"]
        spoken[name] = words


def kind(words: Any, spoken: Any, found: dict[str, Any], before: dict[str, Any] | None) -> str:
    if spoken is None or before is None:
        return "new"
    if words == spoken:
        return "quiet"
    if status(found) not in ("active", status(before)):
        return status(found)
    return "relabelled" if found["type"] == "relationship" and words[0] == spoken[0] else "edited"


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"needs the ATT&CK releases in {FOLDER}")
def test_each_release_publishes_exactly_what_changed(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    create_topics(kafka_bootstrap)
    monkeypatch.setitem(registry.FEEDS, "three-releases", attack.feed_of("enterprise-attack", "three-releases"))
    settings, before, spoken = load_settings(state_dir=tmp_path), {}, {}
    for release in RELEASES:
        source = FOLDER / f"enterprise-attack-{release}.json"
        report = runner.fetch("three-releases", str(source), settings, kafka_bootstrap)
        now = with_replacements(raw(release))
        expected = Counter(kinds(before, now, spoken))
        by_kind = Counter[str]()
        by_topic = Counter[str]()
        for (change, stix_type), count in expected.items():
            by_kind[change] += count
            by_topic[topic(stix_type)] += count if change != "quiet" else 0
        published = {kind: report.counts[kind] for kind in ("new", "edited", "revoked", "deprecated", "relabelled")}
        assert published == {kind: by_kind[kind] for kind in published}
        assert report.counts["unchanged"] + report.counts["touched"] == by_kind["quiet"]
        gone = Counter(topic(before[name]["type"]) for name in before.keys() - now.keys())
        assert (report.counts["withdrawn"], report.counts["absent"]) == (sum(gone.values()), 0)
        assert Counter(report.by_topic) == by_topic + gone
        assert (report.rejected, report.release, report.counts["stale"]) == ({}, release, 0)
        before = now
    again = runner.fetch("three-releases", str(source), settings, kafka_bootstrap)
    assert (again.published, again.counts["touched"]) == (0, report.counts["touched"])
    read = runner.parse_events("three-releases", str(source), settings)
    fresh = (outcome.event for outcome in read if isinstance(outcome, EncodedEvent))
    assert active(events_of(kafka_bootstrap, "three-releases")) == active(fresh)


def events_of(bootstrap: str, feed: str) -> Iterator[Event]:
    """The events of a feed on the topics."""
    partitions = [TopicPartition(t.name, n) for t in EVENT_TOPICS for n in range(t.partitions)]
    with contextlib.closing(wire.consumer(bootstrap)) as reader:
        ranges = {partition: (0, wire.end_offset(reader, *partition)) for partition in partitions}
        for messages in wire.read_ranges(reader, ranges):
            # Other tests publish nonsense, too.
            found = decoded(messages, Event, messages[0].topic, messages[0].partition)
            yield from (event for _, event in found if event.feed == feed)


def active(events: Iterable[Event]) -> dict[str, bytes]:
    """Id -> digest of the content of each event that is active after all events."""
    latest = {event.id: event for event in events}
    return {e.id: entry_of(encode_event(e)).content for e in latest.values() if e.status == "active"}


def topic(stix_type: str) -> str:
    topics = {"attack-pattern": TECHNIQUES.name, "relationship": RELATIONSHIPS.name}
    return topics.get(stix_type, ENTITIES.name)
