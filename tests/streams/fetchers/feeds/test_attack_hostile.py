"""What a bundle may not do to its neighbours: other domains, older versions, and objects made to do harm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from schemas.encoding import EncodedEvent
from schemas.errors import BadRecord
from schemas.events import Entity, Relationship, Technique
from streams.fetchers.base.feed import FeedState, LeftOut, Outcome, RejectedItem
from streams.fetchers.feeds import attack
from streams.fetchers.formats import stix
from streams.fetchers.formats.stix import Domain
from streams.fetchers.sources.resource import ParsedResource
from tests.streams.fetchers.stix_bundles import (
    bundle,
    group,
    ordinary,
    reference,
    relationship,
    technique,
    thing,
    written,
)

LATER = {"modified": "2024-01-01T00:00:00.000Z"}


def parsed(*objects: Any, domain: Domain = "enterprise-attack", name: str = "bundle.json") -> ParsedResource:
    return attack.parse(bundle(*objects), domain, name)


def events_in(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    return {o.event.id: o.event for o in outcomes if isinstance(o, EncodedEvent)}


def rejected_in(outcomes: Iterable[Outcome]) -> dict[str, str]:
    return {o.origin.partition(":")[2]: o.error.reason for o in outcomes if isinstance(o, RejectedItem)}


def left_out_in(outcomes: Iterable[Outcome]) -> Counter[str]:
    return Counter(o.reason for o in outcomes if isinstance(o, LeftOut))


# several domains


def of_domain(number: int, chain: str, domain: str) -> dict[str, Any]:
    phases = [{"kill_chain_name": chain, "phase_name": "impact"}]
    return technique(number, kill_chain_phases=phases, x_mitre_domains=[domain])


THREE = [
    of_domain(1, "mitre-attack", "enterprise-attack"),
    of_domain(2, "mitre-ics-attack", "ics-attack"),
    of_domain(3, "mitre-mobile-attack", "mobile-attack"),
]
SHARED = group(4, x_mitre_domains=["enterprise-attack", "ics-attack"])
OF_ENTERPRISE = thing("malware", 5, "Malware 5", x_mitre_domains=["enterprise-attack"])
EDGES = [relationship(n, SHARED, each) for n, each in enumerate((*THREE, OF_ENTERPRISE))]


@pytest.mark.parametrize(
    ("domain", "techniques", "others", "edges"),
    [
        ("enterprise-attack", {"T1001"}, {SHARED["id"], OF_ENTERPRISE["id"]}, {EDGES[0]["id"], EDGES[3]["id"]}),
        ("ics-attack", {"T1002"}, {SHARED["id"]}, {EDGES[1]["id"]}),
    ],
)
def test_of_a_bundle_of_several_domains_a_feed_has_its_own_and_counts_the_rest(
    domain: Domain, techniques: set[str], others: set[str], edges: set[str]
) -> None:
    objects = [*THREE, SHARED, OF_ENTERPRISE, *EDGES]
    outcomes = parsed(*objects, domain=domain).outcomes
    found = events_in(outcomes).values()
    assert {e.id for e in found if isinstance(e, Technique)} == techniques
    assert {e.id for e in found if isinstance(e, Entity)} == others
    assert {e.id for e in found if isinstance(e, Relationship)} == edges
    assert all(event.tactics for event in found if isinstance(event, Technique))
    assert left_out_in(outcomes) == {"other-domain": len(objects) - len(found)}
    assert rejected_in(outcomes) == {}


def test_a_bundle_of_one_domain_keeps_what_names_another_domain() -> None:
    source = thing("x-mitre-data-source", 7, "Logs", x_mitre_domains=["ics-attack"])
    assert source["id"] in events_in(parsed(technique(1), source).outcomes)


# versions


def test_of_several_versions_of_an_object_the_latest_counts_also_if_it_is_revoked() -> None:
    old, new = technique(1, "Old"), technique(1, "New", revoked=True, **LATER)
    for objects in ((old, new), (new, old)):
        outcomes = parsed(*objects).outcomes
        assert [(e.name, e.status) for e in events_in(outcomes).values()] == [("New", "revoked")]
        assert (left_out_in(outcomes), rejected_in(outcomes)) == ({"older-version": 1}, {})


def test_an_active_object_is_preferred_among_different_ids_with_one_external_id() -> None:
    gone = technique(1, "Gone", revoked=True, **LATER)
    live = technique(2, "Live", external_references=reference("T1001"))
    assert [event.name for event in events_in(parsed(live, gone).outcomes).values()] == ["Live"]


def test_a_version_without_a_usable_time_does_not_replace_another() -> None:
    good, bad = technique(1, "Good"), technique(1, "Bad", modified="soon")
    assert [event.name for event in events_in(parsed(bad, good).outcomes).values()] == ["Good"]


# releases


def collection(version: str, *contents: dict[str, Any], **fields: Any) -> dict[str, Any]:
    refs = {"x_mitre_contents": [{"object_ref": each["id"]} for each in contents]} if contents else {}
    return thing("x-mitre-collection", 90, "ATT&CK", x_mitre_version=version, **refs, **fields)


@pytest.mark.parametrize(
    ("objects", "name", "is_complete"),
    [
        ([technique(1)], "enterprise-attack-15.1.json", True),
        ([technique(1)], "enterprise-attack.json", True),
        ([technique(1)], "excerpt.json", False),
        ([technique(1)], "excerpt-15.1.json", False),
        ([technique(1)], "ics-attack-15.1.json", False),
        ([technique(1), collection("15.1")], "x.json", True),
        ([technique(1), collection("15.1", technique(1))], "x.json", True),
        ([technique(1, name=7) | {"name": 7}, collection("15.1", technique(1))], "x.json", True),
        ([technique(1), collection("15.1", technique(1), technique(2))], "enterprise-attack.json", False),
    ],
)
def test_a_bundle_is_a_full_release_if_its_collection_or_its_name_says_so(
    objects: list[Any], name: str, is_complete: bool
) -> None:
    assert parsed(*objects, name=name).is_complete == is_complete


def test_in_a_folder_the_newest_bundle_counts_whatever_its_file_is_called(tmp_path: Path) -> None:
    written(tmp_path, technique(1), collection("18.1"), name="enterprise-attack.json")
    written(tmp_path, technique(1), name="enterprise-attack-15.1.json")
    read = attack.feed_of("enterprise-attack").collection.read
    newest = read("x", str(tmp_path), FeedState(), tmp_path, lambda *_: None)
    assert newest.release == "18.1"
    written(tmp_path, technique(1, **LATER), collection("19.0"), name="enterprise-attack-9.0.json")
    (tmp_path / "enterprise-attack-99.0.json").write_text("{")
    assert read("x", str(tmp_path), FeedState(), tmp_path, lambda *_: None).release == "19.0"


@pytest.mark.parametrize("version", ["9" * 5_000, "x" * 800_000, "17.1\n"])
def test_a_version_that_is_none_is_the_collections_own_fault(version: str) -> None:
    bad = collection(version)
    found = parsed(*ordinary(), bad, name="enterprise-attack-15.1.json")
    assert rejected_in(found.outcomes) == {bad["id"]: "bad-release"}
    assert (found.release, len(events_in(found.outcomes))) == ("15.1", 7)
    assert max(len(o.value) for o in found.outcomes if isinstance(o, EncodedEvent)) < 1_000


# objects made to do harm


def test_whatever_is_raised_for_one_object_is_its_own_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    named, graph_id = stix.named, stix.graph_id

    def raising(function: Any, name: str) -> Any:
        def read(found: stix.StixObject) -> Any:
            if found.name == name:
                raise OverflowError("of a kind that nobody thought of")
            return function(found)

        return read

    monkeypatch.setattr(stix, "named", raising(named, "First"))
    monkeypatch.setattr(stix, "graph_id", raising(graph_id, "Second"))
    first, second = technique(8, "First"), technique(9, "Second")
    found = parsed(first, *ordinary(), second).outcomes
    assert rejected_in(found) == {first["id"]: "unreadable", second["id"]: "unreadable"}
    assert len(events_in(found)) == 7


def test_an_object_that_can_not_be_decoded_is_known_by_its_id() -> None:
    bad = technique(9) | {"name": 9}
    assert rejected_in(parsed(bad, technique(1)).outcomes) == {bad["id"]: "wrong-type"}


def test_a_bundle_that_ends_in_a_string_of_escaped_quotes_is_refused_after_one_reading() -> None:
    data = bundle(*ordinary())[:-2] + b', {"name": "' + b'\\"' * 2_000_000  # years, if each quote is tried again
    with pytest.raises(BadRecord, match=r"not-a-bundle: .* \(400\d+ bytes\)"):
        attack.parse(data, "enterprise-attack")


@pytest.mark.parametrize("tiny", [b"{}", b"0", b'{"type":"tool"}'])
@pytest.mark.parametrize("number", [200_001, 5_000_000])
def test_a_bundle_of_more_objects_than_the_limit_is_refused_whole(tiny: bytes, number: int) -> None:
    data = b'{"type": "bundle", "objects": [' + b",".join([tiny] * number) + b"]}"
    with pytest.raises(BadRecord, match=r"too-many: .* the limit is \d+: divide it"):
        attack.parse(data, "enterprise-attack")


def test_a_broken_bundle_of_more_objects_than_the_limit_is_refused_whole() -> None:
    data = b'{"type": "bundle", "objects": [' + b",".join([b'{"a" 1}'] * 200_001) + b"]}"
    with pytest.raises(BadRecord, match="too-many"):
        attack.parse(data, "enterprise-attack")


def test_a_technique_with_twenty_thousand_tactics_spoils_neither_the_others_nor_its_relationships() -> None:
    many = technique(9, tactics=tuple(f"tactic-{n}" for n in range(20_000)))
    long, one = technique(8, "x" * 400_000), group(1)
    edges = [relationship(n, one, each) for n, each in enumerate((many, long, technique(1)))]
    found = parsed(many, long, one, technique(1), *edges).outcomes
    of_edges = dict.fromkeys((edges[0]["id"], edges[1]["id"]), "missing-end")
    assert rejected_in(found) == {many["id"]: "too-many", long["id"]: "too-long"} | of_edges
    assert set(events_in(found)) == {one["id"], "T1001", edges[2]["id"]}


def test_the_text_of_the_analytics_that_is_copied_has_a_limit() -> None:
    analytics = [thing("x-mitre-analytic", n, f"A{n}", description=f"{n}" * 25_000) for n in range(3)]
    refs = [each["id"] for each in analytics]
    strategy = thing("x-mitre-detection-strategy", 4, "Detect It", x_mitre_analytic_refs=refs)
    detects = relationship(5, strategy, technique(6), "detects", description="")
    found = events_in(parsed(*analytics, strategy, technique(6), detects).outcomes)
    assert found[strategy["id"]].text == found[detects["id"]].text == "0" * 25_000


# values that mean nothing


def test_values_that_mean_nothing_are_nothing() -> None:
    one = technique(1, description="None", x_mitre_platforms=["None", "Linux"], x_mitre_detection="n/a")
    analytic = thing("x-mitre-analytic", 2, "A", description="Look.", x_mitre_platforms=["None"])
    strategy = thing("x-mitre-detection-strategy", 3, "S", x_mitre_analytic_refs=[analytic["id"]])
    nameless = thing("tool", 4, "None")
    aka = group(5, aliases=["NULL", "Bear"])
    outcomes = parsed(one, analytic, strategy, nameless, aka).outcomes
    found = events_in(outcomes)
    assert (found["T1001"].text, found["T1001"].platforms, found["T1001"].detection) == ("", ("Linux",), "")
    assert (found[strategy["id"]].text, found[aka["id"]].aliases) == ("Look.", ("Bear",))
    assert rejected_in(outcomes) == {nameless["id"]: "no-name"}
