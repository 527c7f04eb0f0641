"""Training data for other programs: every file in its form, from valid events only, and the same bytes again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from schemas.events import Entity, LogSource, Report, ReportSpan, Template
from streams.content.training_data import write_training_data
from tests.flow.events import technique, uses

SIGMA = Template(
    id="sigma:s", feed="sigma", name="Odd Shell", text="Finds an odd shell.", rule_type="sigma", severity="high",
    techniques=("T1001",), tactics=("execution",), detection="selection:\n  Image: sh",
    log_source=LogSource(product="linux"), false_positives=("Admins", "Tests"),
)  # fmt: skip
ATOMIC = Template(
    id="atomic-red-team:a", feed="atomic-red-team", name="Run it", rule_type="atomic", techniques=("T1002",),
    detection="sh -c id", platforms=("linux", "macos"),
)  # fmt: skip
LOLBIN = Entity(id="lolbas:x", feed="lolbas", kind="lolbin", name="X.exe", text="Runs all.", techniques=("T1002",))
TOOL = Entity(id="tool--1", feed="attack-enterprise", kind="tool", name="Zap", text="Zaps.")
REPORT = Report(
    id="reports:d:1", feed="reports", document="d", name="d", text="They ran a shell.",
    spans=(ReportSpan(start=9, end=16, kind="technique", id="T1002", name="Shell", tactics=("impact",)),),
)  # fmt: skip
CONTENT = [
    technique(1, status="revoked", revoked_by="T1002"), technique(2, 0, "execution", "impact"), technique(3),
    uses(2), SIGMA, ATOMIC, LOLBIN, TOOL, REPORT,
    msgspec.structs.replace(SIGMA, id="sigma:gone", name="Gone", status="withdrawn"),
]  # fmt: skip


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_texts_have_the_one_technique_the_tactics_and_the_phase_that_they_are_about(tmp_path: Path) -> None:
    counts = write_training_data(CONTENT, tmp_path)
    by_technique = {record["text"]: record for record in lines(tmp_path / "distilbert_classification.jsonl")}
    assert by_technique["Odd Shell. Finds an odd shell."] == {
        "text": "Odd Shell. Finds an odd shell.", "label": "T1002", "label_id": 0,
    }  # fmt: skip
    assert by_technique["They ran a shell."]["label"] == "T1002"
    assert by_technique["Technique 3. Adversaries may do 3 at 1500000000000."]["label_id"] == 1
    assert json.loads((tmp_path / "distilbert_label_map.json").read_bytes()) == {
        "label2id": {"T1002": 0, "T1003": 1}, "id2label": {"0": "T1002", "1": "T1003"},
    }  # fmt: skip
    tactics = {record["text"]: record["labels"] for record in lines(tmp_path / "distilbert_multilabel.jsonl")}
    phases = {record["text"]: record["label"] for record in lines(tmp_path / "hd4_classification.jsonl")}
    assert (tactics["They ran a shell."], phases["They ran a shell."]) == (["impact"], "DOMINATE")
    assert phases["Odd Shell. Finds an odd shell."] == "DETECT"
    assert not any("Gone" in text for text in (*tactics, *by_technique))
    assert json.loads((tmp_path / "label_mappings.json").read_bytes()) == {
        "tactics": {"execution": 0, "impact": 1},
        "hd4_phases": {"HUNT": 0, "DETECT": 1, "DISRUPT": 2, "DISABLE": 3, "DOMINATE": 4},
    }
    assert counts["distilbert_classification.jsonl"] == len(lines(tmp_path / "distilbert_classification.jsonl"))


def test_instructions_are_the_same_in_all_three_forms_and_cover_rules_tests_and_tools(tmp_path: Path) -> None:
    write_training_data(CONTENT, tmp_path)
    records = lines(tmp_path / "phi3_lora_training.jsonl")
    assert json.loads((tmp_path / "phi3_alpaca_format.json").read_bytes()) == records
    chats = lines(tmp_path / "phi3_chat_format.jsonl")
    assert [chat["messages"][1]["content"] for chat in chats] == [record["output"] for record in records]
    assert {message["role"] for chat in chats for message in chat["messages"]} == {"user", "assistant"}
    answers = {record["instruction"]: record["output"] for record in records}
    assert answers["Name the false positives of this detection rule."] == "Odd Shell may also find: Admins; Tests."
    written = answers["Write the detection of a Sigma rule for Technique 2 (T1002), in the logs linux."]
    assert written == "selection:\n  Image: sh"
    test = answers["Make a test of defences for Technique 2 (T1002) on linux and macos."]
    assert test == "Run it.\n\nsh -c id"
    assert answers["Analyse how attackers use X.exe."] == "Runs all. It serves Technique 2 (T1002)."
    assert answers["Describe the tool Zap."] == "Zaps."
    assert all(set(record) == {"instruction", "input", "output"} and record["output"] for record in records)


def test_spans_are_there_with_reports_only_and_the_same_events_give_the_same_bytes(tmp_path: Path) -> None:
    write_training_data(CONTENT, tmp_path)
    assert lines(tmp_path / "distilbert_ner.jsonl") == [
        {
            "text": REPORT.text,
            "entities": [{"start": 9, "end": 16, "label": "TECHNIQUE", "id": "T1002", "name": "Shell"}],
        }
    ]
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(first) == 10
    write_training_data(CONTENT, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    write_training_data(CONTENT[:3], tmp_path)
    assert not (tmp_path / "distilbert_ner.jsonl").exists()
