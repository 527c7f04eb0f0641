"""`sx9 predict` ranks what probably comes next, and names who uses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.errors import BadConfiguration
from serving.errors import NotFound
from sx9_ml_models.cli.predict import predict
from trainers.store.registry import Registry


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, trained: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SX9_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("SX9_OUTPUT_DIR", str(trained.root.parent))


def test_the_next_techniques_of_what_was_seen_have_evidence(capsys: pytest.CaptureFixture[str]) -> None:
    predict(seen="t1000, T1004,T9999", k=3, json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["model"], found["version"], found["unknown"]) == ("gnn-threat", "v0001", ["T9999"])
    assert found["seen"] == ["T1000", "T1004"]
    assert len(found["techniques"]) == 3
    assert not {technique["id"] for technique in found["techniques"]} & {"T1000", "T1004"}
    evidence = [each for technique in found["techniques"] for each in technique["evidence"]]
    assert evidence
    assert all("of 2 seen" in each for each in evidence)


def test_the_techniques_of_an_actor_count_as_seen(capsys: pytest.CaptureFixture[str]) -> None:
    predict("Group 1", k=2)
    assert capsys.readouterr().out.startswith("seen: T1001")


def test_what_the_model_does_not_know_is_named() -> None:
    with pytest.raises(BadConfiguration, match=r"knows no technique that was seen \(T9999\)"):
        predict(seen="T9999")
    with pytest.raises(NotFound, match="nobody"):
        predict("nobody")
