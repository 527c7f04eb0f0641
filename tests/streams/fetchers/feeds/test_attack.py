"""What ATT&CK's parser makes of a bundle, and of what should not be in one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.encoding import EncodedEvent
from schemas.errors import BadRecord
from schemas.events import MAX_EVENT_BYTES, MAX_PAYLOAD_BYTES, Entity, Event, NodeRef, Relationship, Technique
from streams.fetchers.base.feed import RejectedItem
from streams.fetchers.feeds import attack
from streams.fetchers.sources.resource import ParsedResource
from tests.streams.fetchers.stix_bundles import (
    CREATED_MS,
    MODIFIED_MS,
    bundle,
    group,
    ordinary,
    reference,
    relationship,
    stix_id,
    technique,
    thing,
)


def parsed(*objects: Any, file_name: str = "enterprise-attack-15.1.json") -> ParsedResource:
    return attack.parse(bundle(*objects), "enterprise-attack", file_name)


def events(*objects: Any) -> dict[str, Event]:
    return {event.id: event for event in events_in(parsed(*objects).outcomes)}


def events_in(outcomes: Iterable[Any]) -> list[Any]:
    return [o.event for o in outcomes if isinstance(o, EncodedEvent)]


def reasons(outcomes: Iterable[Any]) -> list[str]:
    return [o.error.reason for o in outcomes if isinstance(o, RejectedItem)]


def test_a_technique_keeps_its_text_raw_and_its_tactics_sorted() -> None:
    found = technique(
        59,
        "Interpreter",
        tactics=("persistence", "execution"),
        description=" <code>cmd</code> (Citation: X)\n",
        x_mitre_platforms=["Windows", "Linux"],
        x_mitre_detection="Look.",
    )
    found["kill_chain_phases"].append({"kill_chain_name": "mitre-mobile-attack", "phase_name": "impact"})
    assert events_in(parsed(found).outcomes) == [
        Technique(
            id="T1059",
            feed="attack-enterprise",
            release="15.1",
            created_ms=CREATED_MS,
            modified_ms=MODIFIED_MS,
            stix_id=stix_id("attack-pattern", 59),
            name="Interpreter",
            text=" <code>cmd</code> (Citation: X)\n",
            tactics=("execution", "persistence"),
            platforms=("Windows", "Linux"),
            domain="enterprise-attack",
            detection="Look.",
        )
    ]


def test_a_relationship_brings_both_ends_with_the_tactics_of_its_technique() -> None:
    one, used = group(1), technique(2, tactics=("stealth",), x_mitre_deprecated=True)
    edge = relationship(3, one, used, description="It uses it.")
    assert events(one, used, edge)[edge["id"]] == Relationship(
        id=edge["id"],
        feed="attack-enterprise",
        release="15.1",
        created_ms=CREATED_MS,
        modified_ms=MODIFIED_MS,
        relation="uses",
        source=NodeRef(id=one["id"], kind="group", name="Group 1"),
        target=NodeRef(id="T1002", kind="technique", name="Technique 2", tactics=("stealth",), status="deprecated"),
        text="It uses it.",
        domain="enterprise-attack",
    )


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("intrusion-set", {"aliases": ["X", "Bear", "Bear"]}, {"kind": "group", "aliases": ("Bear",)}),
        ("malware", {"x_mitre_aliases": ["X", "Y"]}, {"kind": "malware", "aliases": ("Y",)}),
        ("tool", {"external_references": reference("S0001")}, {"kind": "tool", "external_id": "S0001"}),
        ("campaign", {"description": "Then."}, {"kind": "campaign", "text": "Then."}),
        ("course-of-action", {}, {"kind": "mitigation"}),
        ("x-mitre-tactic", {"x_mitre_shortname": "impact"}, {"kind": "tactic", "aliases": ("impact",)}),
        ("x-mitre-data-source", {}, {"kind": "data-source"}),
        ("x-mitre-data-component", {}, {"kind": "data-component"}),
        ("x-mitre-detection-strategy", {}, {"kind": "detection-strategy"}),
        ("x-mitre-analytic", {"x_mitre_platforms": ["Linux"]}, {"kind": "analytic"}),
        ("x-mitre-asset", {}, {"kind": "asset"}),
        ("x-mitre-matrix", {}, {"kind": "matrix"}),
    ],
)
def test_every_other_kind_is_an_entity(kind: str, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    found = events(thing(kind, 1, "X", **fields))[stix_id(kind, 1)]
    assert isinstance(found, Entity)
    assert {name: getattr(found, name) for name in expected} == expected


def test_a_vulnerability_is_known_by_its_cve() -> None:
    found = thing("vulnerability", 1, "Log4Shell", external_references=reference("CVE-2021-44228", "cve"))
    assert list(events(found)) == ["CVE-2021-44228"]


def test_what_is_about_the_bundle_itself_is_no_event() -> None:
    assert (
        parsed(thing("identity", 1), thing("marking-definition", 2), thing("x-mitre-collection", 3)).outcomes == []
    )


def test_a_revoked_technique_names_the_technique_that_replaces_it() -> None:
    old, new = technique(1, revoked=True), technique(2)
    found = events(relationship(1, old, new, "revoked-by"), old, new)
    assert (found["T1001"].status, found["T1001"].revoked_by) == ("revoked", "T1002")
    assert (found["T1002"].status, found["T1002"].revoked_by) == ("active", "")


def test_a_revoked_group_names_the_stix_id_that_replaces_it() -> None:
    old, new = group(1, revoked=True), group(2)
    assert events(relationship(1, old, new, "revoked-by"), old, new)[old["id"]].revoked_by == new["id"]


def test_revoked_is_stronger_than_deprecated() -> None:
    assert events(technique(1, revoked=True, x_mitre_deprecated=True))["T1001"].status == "revoked"


@pytest.mark.parametrize(
    ("objects", "file_name", "release"),
    [
        ([thing("x-mitre-collection", 1, x_mitre_version="17.1")], "enterprise-attack-15.1.json", "17.1"),
        ([technique(1)], "enterprise-attack-16.0.json", "16.0"),
        ([technique(1), technique(2, modified="2022-01-01T00:00:00.000Z")], "bundle.json", "2022-01-01"),
        ([], "", ""),
    ],
)
def test_the_release_is_the_collections_else_the_file_names_else_the_last_day(
    objects: list[Any], file_name: str, release: str
) -> None:
    assert parsed(*objects, file_name=file_name).release == release


def test_techniques_come_before_entities_before_relationships_each_by_age() -> None:
    young, old = technique(1, created="2022-01-01T00:00:00Z"), technique(2)
    one = group(3, created="2017-01-01T00:00:00Z")
    edge = relationship(4, one, young, created="2016-01-01T00:00:00Z")
    assert list(events(edge, one, young, old)) == ["T1002", "T1001", one["id"], edge["id"]]


def test_stix_2_1_and_a_byte_order_of_keys_make_no_difference() -> None:
    old = technique(1)
    new = dict(reversed(old.items())) | {"spec_version": "2.1", "x_mitre_modified_by_ref": "identity--1"}
    assert events(old) == events(new)


BAD: dict[str, tuple[Any, str]] = {
    "a number": (7, "not-an-object"),
    "a list": ([{}], "not-an-object"),
    "null": (None, "not-an-object"),
    "no type": ({"id": stix_id("tool", 9)}, "no-type"),
    "no id": ({"type": "tool", "name": "x"}, "no-id"),
    "the id of another type": ({"type": "tool", "id": stix_id("malware", 9), "name": "x"}, "bad-id"),
    "an id with a line feed": ({"type": "tool", "id": "tool--1\n", "name": "x"}, "bad-id"),
    "a technique without an external id": (technique(9, external_references=[]), "no-id"),
    "a technique called like a file": (technique(9, external_references=reference("../T1059")), "bad-id"),
    "a name that is a number": (technique(9, name=9) | {"name": 9}, "wrong-type"),
    "a description that is an object": (technique(9, description={"a": 1}), "wrong-type"),
    "revoked in words": (technique(9, revoked="true"), "wrong-type"),
    "references that are texts": (technique(9, external_references=["T1059"]), "wrong-type"),
    "no name": (thing("tool", 9), "no-name"),
    "a time in words": (technique(9, modified="yesterday"), "bad-time"),
    "a time without a zone": (technique(9, created="2020-01-01T00:00:00"), "bad-time"),
    "a time before time": (technique(9, created="0001-01-01T00:00:00Z"), "bad-time"),
    "an unknown type": (thing("x-evil", 9, "x"), "unknown-type"),
    "an end that is missing": (relationship(9, group(98), group(99)), "missing-end"),
    "a relationship without a type": (relationship(9, group(1), group(1), ""), "no-type"),
    "a text too large for a message": (technique(9, description="x" * MAX_EVENT_BYTES), "too-large"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_object_is_rejected_with_its_reason_and_the_rest_goes_through(name: str) -> None:
    bad, reason = BAD[name]
    found = ordinary()
    outcomes = parsed(*found[:2], bad, *found[2:]).outcomes
    assert reasons(outcomes) == [reason]
    assert len(outcomes) == len(found) + 1
    [rejected] = [o for o in outcomes if isinstance(o, RejectedItem)]
    assert (rejected.payload_bytes <= MAX_PAYLOAD_BYTES) == (name != "a text too large for a message")
    assert rejected.payload_bytes > MAX_PAYLOAD_BYTES or json.loads(rejected.payload) == bad
    assert rejected.origin.startswith("attack-enterprise:")


def test_a_text_of_50_mb_is_rejected_by_itself() -> None:
    outcomes = parsed(*ordinary(), technique(9, description="x" * 50_000_000)).outcomes
    assert Counter(type(event).__name__ for event in events_in(outcomes)) == {
        "Technique": 3, "Entity": 1, "Relationship": 3,
    }  # fmt: skip
    assert len(outcomes) == 8


def test_the_relationships_of_a_technique_that_is_too_large_go_through() -> None:
    large, one = technique(1, description="x" * MAX_EVENT_BYTES), group(1)
    assert len(events(large, one, relationship(1, one, large))) == 2


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b'{"type": "tool", "id": NaN}', "bad-json"),
        (b'{"type": "tool", "id": "\xff"}', "bad-json"),
        (b'{"type": "tool", "id": "\\ud800"}', "bad-json"),
        (b'{"type": "tool", "id": "x",}', "bad-json"),
        (b'{"type" "tool"}', "bad-json"),
        (b'{"type": "tool", "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too-deep"),
    ],
)
def test_an_object_that_is_not_json_is_rejected_by_itself(broken: bytes, reason: str) -> None:
    text = bundle(*ordinary(), "HERE").replace(b'"HERE"', broken)
    outcomes = attack.parse(text, "enterprise-attack").outcomes
    assert reasons(outcomes) == [reason]
    assert len(outcomes) == 8


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not-a-bundle"),
        (b"<html>busy</html>", "not-a-bundle"),
        (b"[]", "not-a-bundle"),
        (b'{"type": "bundle"}', "not-a-bundle"),
        (b'{"type": "report", "objects": []}', "not-a-bundle"),
        (b'{"type": "bundle", "objects": {}}', "not-a-bundle"),
        (b"[" * 200_000, "not-a-bundle"),
        (bundle(*ordinary())[:-1], "not-a-bundle"),
        (bundle(*ordinary())[:-300], "not-a-bundle"),
        (bundle(*ordinary()) + b"}", "not-a-bundle"),
        (bundle(*ordinary()).replace(b'"mitre-attack", "phase', b'"mitre-ics-attack", "phase'), "wrong-domain"),
    ],
)
def test_a_bundle_that_is_none_is_refused_whole(data: bytes, reason: str) -> None:
    with pytest.raises(BadRecord) as raised:
        attack.parse(data, "enterprise-attack")
    assert raised.value.reason == reason


def test_of_two_objects_with_one_key_the_active_one_counts_and_both_bring_their_relationships() -> None:
    dead = technique(1, "Dead", x_mitre_deprecated=True, modified="2023-01-01T00:00:00Z")
    live = technique(2, "Live", external_references=reference("T1001"))
    one = group(1)
    outcomes = parsed(dead, live, one, relationship(1, one, dead), relationship(2, one, live)).outcomes
    assert reasons(outcomes) == ["duplicate-id"]
    ends = [event.target.name for event in events_in(outcomes) if isinstance(event, Relationship)]
    assert ends == ["Live", "Live"]


def test_an_object_without_an_id_keeps_its_origin_when_the_bundle_is_reordered() -> None:
    bad = {"type": "tool", "name": "x"}
    first, last = parsed(bad, *ordinary()).outcomes, parsed(*ordinary(), bad).outcomes
    assert [o.digest for o in first if isinstance(o, RejectedItem)] == [
        o.digest for o in last if isinstance(o, RejectedItem)
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = sorted(technique(1, x_mitre_detection="", revoked=False) | relationship(1, group(1), group(1)))


@settings(max_examples=100, deadline=None)
@given(st.lists(JSON | st.dictionaries(st.sampled_from(FIELDS), JSON), max_size=5))
def test_whatever_a_bundle_holds_each_object_is_one_event_or_one_reject(objects: list[Any]) -> None:
    good = ordinary()
    outcomes = parsed(*objects, *good).outcomes
    assert len(outcomes) == len(objects) + len(good)
    assert sum(isinstance(event, Technique) for event in events_in(outcomes)) == 3


def test_a_detection_strategy_and_what_it_detects_say_what_its_analytics_say() -> None:
    analytics = [
        thing(
            "x-mitre-analytic", 1, "Analytic 1", description="Shells start.", x_mitre_platforms=["Windows", "Linux"]
        ),
        thing("x-mitre-analytic", 2, "Analytic 2", description="Never mind.", x_mitre_deprecated=True),
        thing("x-mitre-analytic", 3, "Analytic 3", description="Files change."),
    ]
    refs = [one["id"] for one in (*analytics, analytics[0])] + ["x-mitre-analytic--gone"]
    strategy = thing("x-mitre-detection-strategy", 4, "Detect It", x_mitre_analytic_refs=refs)
    detects = relationship(5, strategy, technique(6), "detects", description="")
    spoken = relationship(7, strategy, technique(6), "detects", description="Its own words.")
    found = events(*analytics, strategy, technique(6), detects, spoken)
    assert (
        found[strategy["id"]].text == found[detects["id"]].text == "Windows, Linux: Shells start.\n\nFiles change."
    )
    assert found[spoken["id"]].text == "Its own words."
