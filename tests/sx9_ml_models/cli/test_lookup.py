"""`sx9 lookup` prints JSON of a folder, writes nothing, and says what it does not know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from streams.content.events_folder import write_events
from sx9_ml_models.cli.lookup import lookup
from tests.flow.events import technique, template


def test_a_folder_is_looked_up_and_stays_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    revoked = technique(1, status="revoked", revoked_by="T1002")
    write_events(tmp_path, [revoked, technique(2), template(1)])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    lookup("t1001", tmp_path, json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["mitre"]["id"], found["nuclei_templates"]) == ("T1002", 1)
    lookup("T1001", tmp_path)
    heading, _, rest = capsys.readouterr().out.partition("\n")
    assert heading == "T1001 -> T1002 Technique 2: 1 items cover it, 0 actors or tools use it"
    assert json.loads(rest) == found
    with pytest.raises(typer.Exit):
        lookup("T9999", tmp_path)
    assert "T9999" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
