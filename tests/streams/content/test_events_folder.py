"""A folder of threat content: what was written is read, so is what upstream publishes, and nothing bad stops it."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from schemas.codec import encode
from schemas.errors import BadConfiguration
from schemas.events import MAX_EVENT_BYTES, Event, Relationship, Technique, Template
from schemas.topics import EVENT_TOPICS, RELATIONSHIPS, TECHNIQUES, topic_of
from streams.content.events_folder import read_events, write_events
from streams.content.source_names import FOLDERS
from streams.fetchers.base.labels import OTHER_RELEASE
from tests.flow.events import group, random_events, technique, template
from tests.streams.fetchers.feeds.samples import SAMPLES, put
from tests.streams.fetchers.stix_bundles import bundle, ordinary, relationship, thing, written
from tests.streams.fetchers.stix_bundles import group as stix_group
from tests.streams.fetchers.stix_bundles import technique as stix_technique

TEMPLATE = "id: a-login\ninfo:\n  name: A login\n  severity: high\n"

RULE = "title: A rule\nid: r-1\nlogsource:\n  product: linux\ndetection:\n  condition: a\n"


def latest(events: list[Event]) -> dict[tuple[str, str], Event]:
    return {(topic_of(event).name, event.id): event for event in events}


def test_what_was_written_is_read_the_latest_of_each_id_in_its_order(tmp_path: Path) -> None:
    feed = random_events(200, Random(3))
    counts = write_events(tmp_path, iter(feed))
    found = list(read_events(tmp_path))
    assert latest(found) == latest(feed)
    assert len(found) == sum(counts.values()) == len(latest(feed))
    places = {id(event): place for place, event in enumerate(feed)}
    for topic in EVENT_TOPICS:
        of_topic = [places[id(latest(feed)[topic.name, e.id])] for e in found if topic_of(e) == topic]
        assert of_topic == sorted(of_topic)


def test_files_of_feeds_are_read_by_the_parser_of_their_feed_with_the_tactics_of_the_bundles(
    tmp_path: Path,
) -> None:
    feeds = ("sigma", "lolbas", "car", "cisa-kev", "annoctr")
    for feed in feeds:
        put(tmp_path / "clones" / FOLDERS[feed][0].upper(), SAMPLES[feed].files)
    written(tmp_path, stix_technique(59), name="enterprise-attack-16.1.json")
    test = "attack_technique: T1059\natomic_tests:\n- name: A test\n  auto_generated_guid: g-1\n"
    put(tmp_path / "mine", {"rule.yml": RULE, "login.yaml": TEMPLATE, "test.yaml": test, "notes.json": "{}"})
    put(tmp_path, {".hidden/login.yaml": TEMPLATE.replace("a-login", "hidden"), "mitre_index.json": "{}"})
    rejected = Counter[str]()
    found = latest(list(read_events(tmp_path, rejected)))
    counts = Counter(event.feed for event in found.values())
    assert counts == {feed: SAMPLES[feed].events for feed in feeds} | {
        "sigma": SAMPLES["sigma"].events + 1, "nuclei-templates": 1, "atomic-red-team": 1, "attack-enterprise": 1,
    }  # fmt: skip
    test_event = found["threat.templates.v1", "atomic-red-team:g-1"]
    assert isinstance(test_event, Template)
    assert test_event.tactics == ("execution",)
    assert rejected == {"not-a-bundle": 1, OTHER_RELEASE: 2}


def test_writing_again_leaves_nothing_of_what_was_there(tmp_path: Path) -> None:
    write_events(tmp_path, random_events(50, Random(4)))
    assert write_events(tmp_path, [technique(1)])[TECHNIQUES.name] == 1
    assert list(read_events(str(tmp_path))) == [technique(1)]
    assert {path.name for path in tmp_path.iterdir()} == {f"{topic.name}.jsonl" for topic in EVENT_TOPICS}


def test_files_as_upstream_publishes_them_are_read_and_the_export_has_the_last_word(tmp_path: Path) -> None:
    (tmp_path / "attack").mkdir()
    (tmp_path / "nuclei").mkdir()
    written(tmp_path / "attack", stix_technique(1, "New"), name="enterprise-attack-16.1.json")
    written(tmp_path / "attack", stix_technique(1, "Old"), *ordinary(3), name="more.json")
    (tmp_path / "nuclei" / "a.yaml").write_text(TEMPLATE)
    write_events(tmp_path / "export", [technique(2), group(7)])
    found = list(read_events(tmp_path))
    counted = latest(found)
    assert counted[TECHNIQUES.name, "T1001"].release == "16.1"
    assert counted[TECHNIQUES.name, "T1002"] == technique(2)
    assert len([event for event in found if isinstance(event, Relationship)]) == 3
    assert ("threat.templates.v1", "nuclei-templates:a-login") in counted


def test_of_several_releases_the_newest_by_what_is_inside_counts_alone(tmp_path: Path) -> None:
    collection = thing("x-mitre-collection", 9, "ATT&CK", x_mitre_version="18.1")
    written(tmp_path, stix_technique(1, "New"), collection, name="enterprise-attack.json")
    written(tmp_path, stix_technique(1, "Old"), stix_technique(2), name="enterprise-attack-15.1.json")
    found = list(read_events(tmp_path))
    assert [(event.id, event.release) for event in found] == [("T1001", "18.1")]


@pytest.mark.parametrize(
    ("name", "chain", "domain"),
    [
        ("ics-attack-15.1.json", "mitre-ics-attack", "ics-attack"),
        ("phones.json", "mitre-mobile-attack", "mobile-attack"),
        ("x.json", "mitre-attack", "enterprise-attack"),
    ],
)
def test_the_domain_of_a_bundle_is_known_by_its_name_or_its_kill_chain(
    name: str, chain: str, domain: str, tmp_path: Path
) -> None:
    found = stix_technique(1, kill_chain_phases=[{"kill_chain_name": chain, "phase_name": "impact"}])
    written(tmp_path, found, name=name)
    (event,) = read_events(tmp_path)
    assert isinstance(event, Technique)
    assert (event.domain, event.tactics) == (domain, ("impact",))


def test_what_can_not_be_used_is_counted_by_its_reason_and_the_rest_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, lonely = stix_group(1), stix_technique(9)
    (tmp_path / "a.json").write_bytes(bundle(one, relationship(2, one, lonely), {"type": "malware"}))
    (tmp_path / "catalog.json").write_text('{"vulnerabilities": []}')
    (tmp_path / "bad.yaml").write_text("info: {name: x}\n")
    (tmp_path / "good.yaml").write_text(TEMPLATE)
    (tmp_path / "out.json").symlink_to("/etc/passwd")
    lines = [
        encode(technique(1)),
        b"{nonsense",
        b"",
        b"x" * (2 * MAX_EVENT_BYTES),
        encode(template(1)),
        encode(technique(2)),
    ]
    (tmp_path / f"{TECHNIQUES.name}.jsonl").write_bytes(b"\n".join(lines))
    (tmp_path / f"{RELATIONSHIPS.name}.jsonl").symlink_to(tmp_path / "elsewhere.jsonl")
    rejected = Counter[str]()
    with caplog.at_level(logging.WARNING):
        found = list(read_events(tmp_path, rejected))
    assert {event.id for event in found} == {one["id"], "nuclei-templates:a-login", "T1001", "T1002"}
    assert rejected == {
        "missing-end": 1, "no-id": 2, "not-a-bundle": 1, "not-a-file": 1, "undecodable": 2, "too-large": 1
    }  # fmt: skip
    assert "1 missing-end, 2 no-id, 1 not-a-bundle" in caplog.text


def test_no_folder_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="sx9 export content"):
        next(read_events(tmp_path / "nowhere"))
