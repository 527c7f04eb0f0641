"""`sx9 ask` where nothing runs: what was read before answers, and what is away is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from serving.techniques.store import EXAMPLES_FILE, ExampleStore
from sx9_ml_models.cli.ask import ask
from tests.serving.techniques.test_techniques import EVENTS


def test_without_neo4j_the_examples_answer_and_nothing_known_is_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SX9_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("SX9_OUTPUT_DIR", str(tmp_path / "output"))
    with pytest.raises(typer.Exit):
        ask("who uses T1003?")
    assert "nothing is known of that" in capsys.readouterr().out
    store = ExampleStore(tmp_path / EXAMPLES_FILE)
    store.add(EVENTS)
    store.close()
    ask("who uses T1003?", generate=True)
    out = capsys.readouterr().out
    assert "Mimikatz" in out
    assert "[1] attack 17.1: T1003" in out
    assert "without the graph: no Neo4j runs" in out
    assert "without the generator: " in out
