"""A version as ONNX."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.trainers.models.distilbert.training import digest
from trainers.core.report import Report
from trainers.models.distilbert.onnx_export import export_onnx, largest_difference


def test_onnx_gives_the_logits_of_torch(first: tuple[Path, Report], tmp_path: Path) -> None:
    before = digest(first[0])
    exported = export_onnx(first[0], tmp_path / "model.onnx")
    assert largest_difference(first[0], exported) < 1e-5
    assert digest(first[0]) == before, "the manifest does not list other files"
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_the_command_writes_the_file_that_it_names(first: tuple[Path, Report], tmp_path: Path) -> None:
    target = tmp_path / "exported.onnx"
    command = [sys.executable, "-m", "trainers.models.distilbert.onnx_export", str(first[0])]
    done = subprocess.run([*command, "--target", str(target)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(target)
    assert target.stat().st_size > 1_000
