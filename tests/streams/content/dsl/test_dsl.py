"""Each technique, rule, tool and exploit is an entity; faults are named; the same events give the same bytes."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import DeadLetter, Event, Technique, Template
from streams.content.dsl.files import convert, entity_files, write_dsl
from streams.content.dsl.hd4 import phase_of_tactics
from streams.content.dsl.model import Sx9Entity
from streams.content.trivariate import parse
from tests.streams.content.ontology.events import technique, world


@pytest.fixture(scope="module")
def entities() -> dict[str, Sx9Entity]:
    return {entity.id: entity for entity in convert(world()).entities}


def the_three_files(folder: Path) -> list[Any]:
    return [
        json.loads((folder / "sx9_entities.json").read_bytes()),
        yaml.safe_load((folder / "sx9_entities.yaml").read_bytes()),
        tomllib.loads((folder / "sx9_entities.toml").read_text(encoding="utf-8")),
    ]


def test_the_three_formats_have_the_same_entities_and_two_runs_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write_dsl(world(), tmp_path / run / "sx9_dsl") for run in ("a", "b"))
    for name in first.files:
        assert (tmp_path / "a/sx9_dsl" / name).read_bytes() == (tmp_path / "b/sx9_dsl" / name).read_bytes()
    write_dsl(reversed(world()), tmp_path / "c" / "sx9_dsl")
    for name in first.files:  # in whatever order the feeds are read
        assert (tmp_path / "a/sx9_dsl" / name).read_bytes() == (tmp_path / "c/sx9_dsl" / name).read_bytes()
    from_json, from_yaml, from_toml = the_three_files(tmp_path / "a/sx9_dsl")
    assert from_json == from_yaml == from_toml
    assert list(from_json) == ["entities"]
    assert all(list(each) == ["sx9_entity"] for each in from_json["entities"])
    assert second.converted == {"DetectionRule": 2, "Exploit": 1, "OffensiveTool": 4, "Technique": 4}
    summary = json.loads((tmp_path / "a/sx9_dsl/pipeline_summary.json").read_bytes())
    assert summary == {"validated": 11, "converted": 11, "error_count": 0, "output_dir": "sx9_dsl"}
    assert not (tmp_path / "a/sx9_dsl/validation_errors.json").exists()


@given(text=st.text(max_size=40), name=st.text(min_size=1, max_size=10).filter(str.strip))
def test_any_text_is_the_same_in_the_three_formats(text: str, name: str) -> None:
    files = dict(entity_files(convert([technique("T1059", name, "impact", text=text)]).entities))
    from_json = json.loads(files["json"])
    assert from_json == yaml.load(files["yaml"], yaml.CSafeLoader) == tomllib.loads(files["toml"].decode())
    assert from_json["entities"][0]["sx9_entity"]["attributes"]["description"] == text


def test_without_events_the_files_are_empty_and_valid(tmp_path: Path) -> None:
    summary = write_dsl([], tmp_path)
    assert the_three_files(tmp_path) == [{"entities": []}] * 3
    assert summary.converted == {}


def test_a_technique_has_all_fields_and_its_hash_is_read_by_width(entities: dict[str, Sx9Entity]) -> None:
    found = msgspec.to_builtins(entities["T1003"])
    assert list(found) == [
        "id", "type", "name", "trivariate", "trivariate_dict", "hashes", "ptcc", "hd4_phase", "attributes",
        "relationships", "trivariate_secondary_dict", "unicode_operation", "task_graph_node",
    ]  # fmt: skip
    assert parse(found["trivariate"]).full == found["trivariate_dict"]["full"]
    assert list(found["hashes"]) == ["semantic", "operational", "trivariate_primary", "trivariate_secondary"]
    assert found["ptcc"] == {"primitive": "AUTHENTICATE", "code": "0x14"}
    assert found["hd4_phase"] == "DISRUPT"
    assert len(found["task_graph_node"]) == 16
    assert 0xE100 <= found["unicode_operation"]["code_point"] < 0xE200
    assert found["task_graph_node"]["predecessors"] == []


def test_rules_tests_tools_and_exploits_say_what_they_detect_and_implement(entities: dict[str, Sx9Entity]) -> None:
    def to(id_: str) -> list[tuple[str, str]]:
        return [(each["type"], each["target_id"]) for each in entities[id_].relationships]

    assert to("1111-2222") == [("DETECTS", "T1059.001"), ("DETECTS", "T1685")]
    assert entities["1111-2222"].attributes["level"] == "informational"
    assert to("9") == [("IMPLEMENTS", "T1059")]
    assert to("S0001") == [("IMPLEMENTS", "T1059")]
    assert to("lolbas:OSBinaries:Certutil.exe") == [("IMPLEMENTS", "T1003")]
    assert (entities["nmap"].ptcc["primitive"], entities["nmap"].hd4_phase) == ("READ", "HUNT")
    exploit = msgspec.to_builtins(entities["edb_50592"])
    assert (exploit["name"], exploit["type"], exploit["hd4_phase"]) == ("EDB-50592", "Exploit", "DISRUPT")
    assert "task_graph_node" not in exploit
    assert "trivariate_secondary" not in exploit["hashes"]


def test_techniques_follow_each_other_as_several_actors_use_them() -> None:
    events = world()
    pair = [e for e in convert(events).entities if e.id in ("T1059.001", "T1003")]
    assert all(each.task_graph_node["successors"] == [] for each in pair)  # only one campaign has both
    (edge,) = (e for e in events if e.id == "relationship--campaign--1-uses-T1059.001")
    other = msgspec.structs.replace(
        edge,
        id="relationship--more",
        source=msgspec.structs.replace(edge.source, id="intrusion-set--2", kind="group"),
    )
    found = {
        each.id: each.task_graph_node for each in convert([*events, other]).entities if each.type == "Technique"
    }
    assert found["T1059.001"]["successors"] == ["T1003"]
    assert found["T1003"]["predecessors"] == ["T1059.001"]


@pytest.mark.parametrize(
    ("tactics", "phase"),
    [
        (["evasion"], "DISRUPT"), (["inhibit-response-function"], "DOMINATE"),
        (["impair-process-control"], "DOMINATE"), (["stealth", "discovery"], "DISRUPT"), ([], "DETECT"),
        (["persistence", "reconnaissance"], "DISABLE"),
    ],
)  # fmt: skip
def test_every_domain_has_a_phase_and_of_several_the_strongest_counts(tactics: list[str], phase: str) -> None:
    assert phase_of_tactics(tactics) == phase


def wrong(**fields: Any) -> Template:
    (rule,) = (event for event in world() if event.id == "sigma:1111-2222")
    return msgspec.structs.replace(rule, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("event", "field", "value", "rule", "kind"),
    [
        (wrong(rule_status="final"), "status", "final", "one of experimental, test, stable, deprecated", "schema"),
        (wrong(severity="awful"), "level", "awful", "one of informational, low", "schema"),
        (wrong(detection=""), "detection", "", "required", "schema"),
        (wrong(cves=("CVE-1",)), "cves", "CVE-1", "CVE, a year", "schema"),
        (wrong(techniques=("T0000",)), "techniques", "T0000", "neither revoked nor deprecated", "semantic"),
        (wrong(tactics=("nonsense",)), "tactics", "nonsense", "a tactic of ATT&CK or ATLAS", "semantic"),
    ],
)
def test_a_fault_names_file_field_value_and_rule(
    tmp_path: Path, event: Event, field: str, value: str, rule: str, kind: str
) -> None:
    summary = write_dsl([*world(), event], tmp_path)
    ((found,),) = [each["errors"] for each in json.loads((tmp_path / "validation_errors.json").read_bytes())]
    assert (found["file"], found["field"], found["value"]) == ("sigma:rules/a.yml", field, value)
    assert (rule in found["rule"], found["kind"]) == (True, kind)
    assert summary.converted["DetectionRule"] == (1 if kind == "schema" else 2)


def test_the_report_counts_faults_and_duplicates_by_feed() -> None:
    copy, broken = wrong(id="sigma:copy", path="rules/b.yml"), wrong(id="sigma:broken", severity="awful")
    letter = DeadLetter(origin="sigma:rules/c.yml", reason="bad-yaml", detail="line 3")
    report = convert([*world(), copy, broken], [letter]).report
    sigma = report.by_source["sigma"]
    assert (sigma.total_files, sigma.passed, sigma.failed_syntax, sigma.failed_schema) == (4, 2, 1, 1)
    assert (sigma.duplicates, sigma.pass_rate, report.duplicates) == (1, 0.5, 1)
    assert [(each.id, each.same_as) for each in report.duplicate_items] == [("sigma:copy", "sigma:1111-2222")]
    assert report.total_files == sum(each.total_files for each in report.by_source.values()) == 14


def test_a_new_release_with_the_same_content_leaves_the_sch(entities: dict[str, Sx9Entity]) -> None:
    newer = [msgspec.structs.replace(e, release="18") if isinstance(e, Technique) else e for e in world()]
    (found,) = (each for each in convert(newer).entities if each.id == "T1059")
    old = entities["T1059"]
    assert found.trivariate_dict["sch"] == old.trivariate_dict["sch"]
    assert found.trivariate_dict["cuid"] != old.trivariate_dict["cuid"]
