"""Reports in free text are read by our own classifier, and the commands put what they say into the ontology."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from schemas.errors import BadConfiguration
from streams.content.events_folder import write_events
from streams.settings import load_settings
from sx9_ml_models.classifying import classifier_of_events
from sx9_ml_models.cli.app import app
from sx9_ml_models.content.command import main
from sx9_ml_models.content.reports import extracted_reports
from tests.serving.techniques.test_techniques import EVENTS
from tests.serving.test_reports import pdf_of

TEXT = "The actor dumps lsass memory for credentials. It was sunny. They used T1566 and CVE-2021-44228."


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    folder = tmp_path / "reports"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text(TEXT)
    (folder / "sub" / "b.html").write_text(f"<html><body><script>T1003</script><p>{TEXT}</p></body></html>")
    (folder / "c.pdf").write_bytes(pdf_of(TEXT))
    (folder / "d.pdf").write_bytes(b"%PDF-1.7 damaged")
    (folder / "notes.csv").write_text("T1003")
    return folder


def test_text_html_and_pdf_say_the_same_with_places_and_confidences_and_a_damaged_file_is_counted(
    reports: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    rejected = Counter[str]()
    with classifier_of_events(EVENTS, load_settings(output_dir=tmp_path)) as classifier:
        found = list(extracted_reports(reports, classifier, rejected))
        with pytest.raises(BadConfiguration, match="has no reports"):
            next(extracted_reports(tmp_path / "empty", classifier))
        with pytest.raises(BadConfiguration, match="give the path of a file or folder"):
            next(extracted_reports(tmp_path / "missing.txt", classifier))
    assert [report.name for report in found] == ["a.txt", "c.pdf", "sub/b.html"]
    assert rejected == {"bad-pdf": 1}
    for report in found:
        said = {statement.target: statement.span for statement in report.statements}
        assert set(said) == {"T1003", "T1566", "CVE-2021-44228"}
        assert (said["T1566"].confidence, said["T1566"].by) == (1.0, "stated")
        assert 0.7 <= said["T1003"].confidence <= 1
        assert said["T1003"].by == "nearest examples"
    span = found[0].statements[0].span
    assert TEXT[span.start : span.end] == span.text == "The actor dumps lsass memory for credentials."


def mentioned(ontology: Path) -> dict[str, set[str]]:
    """Name of a report -> what it mentions."""
    document: dict[str, Any] = json.loads((ontology / "threat_ontology.json").read_bytes())
    found: dict[str, set[str]] = {}
    for each in document["relations"]:
        if each["relation_type"] == "mentions":
            assert all(span["text"] for span in each["spans"])
            found.setdefault(each["source"], set()).add(each["target_id"])
    return found


def test_both_commands_put_what_reports_say_into_the_ontology(
    reports: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SX9_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("SX9_KAFKA_BOOTSTRAP", raising=False)
    content = tmp_path / "output" / "threat_content"
    write_events(content, EVENTS)
    assert main(["--ontology-only", "--free-text", str(reports), "--output", str(tmp_path / "output")]) == 0
    assert "reports left out: 1 bad-pdf" in capsys.readouterr().out
    both = {"T1003", "T1566", "CVE-2021-44228"}
    assert mentioned(tmp_path / "output" / "ontology")["a.txt"] == both
    exported = ["export", "ontology", "--content", str(content), "--output", str(tmp_path / "exported")]
    done = CliRunner().invoke(app, [*exported, "--reports", str(reports / "a.txt")])
    assert done.exit_code == 0, done.output
    assert mentioned(tmp_path / "exported") == {"a.txt": both}
    assert main(["--train-only", "--free-text", str(reports), "--output", str(tmp_path / "output")]) == 2
    assert "add --ontology-only" in capsys.readouterr().err
