"""The crosswalk has its keys and value types, follows revoked ids, and leaves out what is not active."""

from __future__ import annotations

import msgspec

from schemas.events import Entity, NodeRef, Relationship, Template
from streams.content.crosswalk import Crosswalk
from tests.flow.events import group, technique, uses


def rule(feed: str, name: str, *techniques: str, **fields: object) -> Template:
    return msgspec.convert(
        {"type": "template", "id": f"{feed}:{name}", "feed": feed, "name": name.title(), "techniques": techniques}
        | fields,
        Template,
    )


CONTENT = [
    technique(1, status="revoked", revoked_by="T1002"),
    technique(2),
    group(3, external_id="G0003"),
    group(4, external_id="G0004", status="revoked"),
    rule("atomic-red-team", "a", "T1002"),
    rule("atomic-red-team", "b", "T1001"),
    rule("sigma", "s-1", "T1001", release="c0ffee", path="rules/s.yml", rule_type="sigma"),
    rule("sigma", "s-2", "T1002", status="deprecated"),
    rule("nuclei-templates", "n", "T1002", cves=["CVE-2024-1"]),
    rule("caldera", "ability", "T1002"),
    Entity(id="lolbas:OSBinaries:X.exe", feed="lolbas", kind="lolbin", name="X.exe", techniques=("T1002",)),
    Entity(
        id="exploitdb:7", feed="exploitdb", kind="exploit", name="Boom", external_id="EDB-7", cves=("CVE-2024-1",)
    ),
    Entity(id="cm", feed="attack-enterprise", kind="mitigation", name="Do not", external_id="M1000"),
    Relationship(
        id="r", feed="attack-enterprise", release="16.1", relation="mitigates",
        source=NodeRef(id="cm", kind="mitigation", name="Do not"), target=NodeRef(id="T1001", kind="technique"),
    ),
    uses(2),
]  # fmt: skip


def test_the_crosswalk_index_has_its_keys_with_numbers_and_lists_of_ids() -> None:
    assert Crosswalk(CONTENT).crosswalk_index() == {
        "technique_to_atomic": {"T1002": 2},
        "technique_to_nuclei": {"T1002": ["n"]},
        "technique_to_sigma": {"T1002": ["s-1"]},
        "technique_to_car": {},
        "technique_to_lolbas": {"T1002": ["X.exe"]},
        "technique_to_caldera": {"T1002": ["ability"]},
        "cve_to_nuclei": {"CVE-2024-1": ["n"]},
        "cve_to_exploitdb": {"CVE-2024-1": ["EDB-7"]},
    }


def test_the_mitre_index_has_active_techniques_and_groups_by_id_and_where_revoked_ids_went() -> None:
    index = Crosswalk(CONTENT).mitre_index()
    assert list(index["techniques"]) == ["T1002"]
    assert index["groups"] == {"G0003": {"id": "G0003", "name": "Group 3", "aliases": []}}
    assert index["revoked"] == {"T1001": "T1002"}


def test_a_lookup_of_a_revoked_id_finds_what_covers_its_successor_and_where_that_is_from() -> None:
    found = Crosswalk(CONTENT).lookup("t1001")
    assert (found["mitre"]["id"], found["successors"]) == ("T1002", ["T1002"])
    assert (found["atomic_tests"], found["nuclei_templates"], found["sigma_rules"]) == (2, 1, 1)
    by_id = {item["id"]: item for item in found["covered_by"]}
    assert set(by_id) == {"a", "b", "s-1", "n", "ability", "X.exe", "M1000"}
    assert by_id["s-1"] == {
        "feed": "sigma", "release": "c0ffee", "kind": "sigma", "id": "s-1", "name": "S-1", "path": "rules/s.yml",
    }  # fmt: skip
    assert (by_id["M1000"]["relation"], by_id["M1000"]["release"]) == ("mitigates", "16.1")
    assert [item["name"] for item in found["used_by"]] == ["Group 2"]


def test_a_lookup_knows_actors_and_vulnerabilities_and_says_null_of_what_nobody_knows() -> None:
    crosswalk = Crosswalk([*CONTENT, group(2, external_id="G0002")])
    assert crosswalk.lookup("G0002")["uses"] == ["T1002"]
    assert [item["id"] for item in crosswalk.lookup("cve-2024-1")["covered_by"]] == ["EDB-7", "n"]
    nothing = crosswalk.lookup("T9999")
    assert (nothing["mitre"], nothing["sigma_rules"], nothing["covered_by"]) == (None, 0, [])


def test_a_later_event_replaces_an_earlier_one_and_a_circle_of_successors_ends() -> None:
    gone = rule("sigma", "s-1", "T1001", status="withdrawn")
    assert Crosswalk([*CONTENT, gone]).lookup("T1002")["sigma_rules"] == 0
    circle = [
        technique(1, status="revoked", revoked_by="T1002"),
        technique(2, status="revoked", revoked_by="T1001"),
    ]
    assert Crosswalk(circle).successors("T1001") == ["T1001"]


def test_the_counts_are_of_what_is_active() -> None:
    assert Crosswalk(CONTENT).counts() == {
        "atomic-red-team": 2, "attack-enterprise": 3, "caldera": 1, "exploitdb": 1, "lolbas": 1,
        "nuclei-templates": 1, "sigma": 1,
    }  # fmt: skip
