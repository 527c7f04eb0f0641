"""`sx9 classify` reads a report, says what it is about, and writes the forms of other tools."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from schemas.errors import BadConfiguration
from streams.content.events_folder import write_events
from sx9_ml_models.cli.classify import classify
from tests.serving.techniques.test_techniques import EVENTS

TEXT = "The actor dumps credentials from lsass memory. It was sunny. See T1566."


@pytest.fixture
def content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SX9_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SX9_OUTPUT_DIR", str(tmp_path / "output"))
    write_events(tmp_path / "content", EVENTS)
    return tmp_path / "content"


def test_a_report_is_classified_and_shared(
    tmp_path: Path, content: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stix, layer = tmp_path / "bundle.json", tmp_path / "layer.json"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    classify("-", json=True, stix=stix, navigator=layer, content=content)
    (found,) = json.loads(capsys.readouterr().out)
    assert {t["id"]: t["stated"] for t in found["techniques"]} == {"T1566": True, "T1003": False}
    assert "has no champion" in found["away"]["tactics"]
    assert {t["techniqueID"] for t in json.loads(layer.read_text())["techniques"]} == {"T1566", "T1003"}
    assert json.loads(stix.read_text())["type"] == "bundle"


def test_each_line_of_a_file_is_shown_with_its_sentences(
    tmp_path: Path, content: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "r.jsonl"
    file.write_text(json.dumps({"id": "first", "text": TEXT}) + "\n" + json.dumps("Nothing known here."))
    classify(str(file), content=content)
    out = capsys.readouterr().out
    assert "T1003  The actor dumps credentials" in out
    assert out.count("held-out procedure texts") == 2


def test_a_file_that_is_not_there_is_named(content: Path) -> None:
    with pytest.raises(BadConfiguration, match="absent"):
        classify("absent.txt", content=content)
