"""The command compares policies on a journal in a file, without Kafka; its numbers are those of the backtest."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from schemas.errors import BadConfiguration
from schemas.journal import Record
from schemas.versions import Manifest, PhaseTime
from sx9_ml_models.backtest.compare import RECORDED, RECORDED_RULES, compare, policies_of
from tests.streams.core.records import SMALL
from tests.streams.core.test_backtest import HALVED, HOUR_MS, MODEL, backtested, lived
from tests.trainers.samples import MemoryLog
from transport.partition_file import write_partition

COST = {"phases": {"train": PhaseTime(1.0, 30.0), "read": PhaseTime(1.0, 10.0)}, "examples_trained": 20}


def manifest(**fields: object) -> Manifest:
    return Manifest(model=MODEL, version="v0001", trigger="t", reason="volume", **fields)  # type: ignore[arg-type]


def test_outcomes_are_those_of_a_backtest_each_and_cost_what_the_versions_did() -> None:
    journal = lived(SMALL, 5 * HOUR_MS, refuse=2)
    found = compare(
        MODEL, MemoryLog(journal), {"half": HALVED}, [manifest(), manifest(**COST)], answer_after_s=7200
    )
    assert (found.records, found.versions, found.example_processor_s) == (len(journal), 1, 2.0)
    for outcome, (policy, answer) in zip(
        found.outcomes, [(None, None), (None, 2 * HOUR_MS), (HALVED, 2 * HOUR_MS)], strict=True
    ):
        alone, _ = backtested(journal, policy, answer)
        assert outcome.retrains == tuple(alone.retrains)
        assert outcome.processor_s == 2.0 * sum(r.examples + r.rehearsal for r in alone.retrains)
    assert [outcome.name for outcome in found.outcomes] == [RECORDED, RECORDED_RULES, "half"]


def test_without_a_measured_version_no_cost_is_claimed() -> None:
    found = compare(MODEL, MemoryLog(lived(SMALL, 0)), {}, [manifest()], answer_after_s=0)
    assert {outcome.processor_s for outcome in found.outcomes} == {None}


def test_a_policy_file_without_the_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text("[gnn-threat]\nretrain_examples = 3\n")
    with pytest.raises(BadConfiguration, match=r"p\.toml has no table \[distilbert-mitre\]"):
        policies_of([tmp_path / "p.toml"], MODEL)


def test_the_command_writes_table_picture_and_page(tmp_path: Path) -> None:
    assert write_partition(tmp_path / "journal.jsonl", MemoryLog(lived(SMALL, 5 * HOUR_MS)), Record)
    values = msgspec.to_builtins(HALVED)
    table = "\n".join(f"{name} = {value}" for name, value in values.items() if isinstance(value, int | float))
    (tmp_path / "<half>.toml").write_text(f"[{MODEL}]\n{table}\n")
    command = [
        sys.executable, "-m", "sx9_ml_models", "backtest", "<half>.toml", "--journal", "journal.jsonl",
        "--answer-after", "120",
    ]  # fmt: skip
    env = os.environ | {"SX9_STATE_DIR": str(tmp_path / "state"), "SX9_OUTPUT_DIR": str(tmp_path / "output")}
    done = subprocess.run(command, capture_output=True, timeout=120, check=True, env=env, cwd=tmp_path, text=True)
    _, found = backtested(lived(SMALL, 5 * HOUR_MS), HALVED, 2 * HOUR_MS)
    assert re.search(rf"<half> +{len(found)} ", done.stdout)
    assert "assumed to be promoted 2 h after its trigger" in done.stdout
    page = (tmp_path / "output/backtest" / f"{MODEL}.html").read_text()
    (image,) = re.findall(r"base64,([\w+/=]+)", page)
    assert base64.b64decode(image) == (tmp_path / "output/backtest" / f"{MODEL}.png").read_bytes()
    assert "&lt;half&gt;" in page
    assert page.count(f"<td>{found[-1].offset}</td>") >= 1
    assert not (tmp_path / "state").exists()
