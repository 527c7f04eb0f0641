"""The benchmark of a GPU: its dry run, what it needs, and the operations that it counts."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu
from benchmarks.gpu_data import TINY
from benchmarks.gpu_phi3 import count_flops, examples, random_phi3
from schemas.recipes.phi3_lora import Phi3LoraConfig
from trainers.models.phi3_lora.adapter import PACKED_ATTENTION, add_adapter
from trainers.models.phi3_lora.packing import PackedRow, pack
from trainers.models.phi3_lora.scorer import LanguageModelScorer

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def only_what_it_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages that the benchmark names, and with what these require, but with nothing else."""
    folder = tmp_path_factory.mktemp("site")
    waiting, seen = list(gpu.PACKAGES.values()), set()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform
        found = [Requirement(line) for line in package.requires or []]
        waiting += [r.name for r in found if r.marker is None or r.marker.evaluate({"extra": ""})]
        for top in {file.parts[0] for file in package.files or []} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(package.locate_file(top))
    return folder


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", "-m", "benchmarks.gpu", "--dry-run", "--threads", "1", *arguments]
    environment = {"PYTHONPATH": f"{site}:{ROOT}", "PATH": "", "HOME": str(site)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=site, check=False)


def test_the_dry_run_computes_what_it_should_with_only_the_packages_that_it_names(
    only_what_it_names: Path, tmp_path: Path
) -> None:
    finished = run(only_what_it_names, "--output", str(tmp_path))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stdout.startswith("no GPU is used: a dry run")
    result: dict[str, Any] = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert result["dry_run"] is True
    assert set(result["parts"]) == set(gpu.PARTS)
    assert {line["reached"] for line in result["table"]} == {True}
    assert len(result["table"]) == 2 * len(gpu.MODELS) + 3
    for model in gpu.MODELS:
        losses = result["parts"]["reference"][model]["losses"]
        assert losses[-1] < losses[0], f"{model} learns something that bf16 could spoil"
        assert losses != result["parts"]["recipes"][model]["losses"], f"{model} did not compute in bf16"


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    finished = run(tmp_path)
    assert finished.returncode == 2
    packages = " ".join(gpu.PACKAGES.values())
    assert f"pip install {packages}" in finished.stderr


def test_a_part_that_fails_is_named_and_fails_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "PARTS", ("no such part",))
    found, failures = gpu.run(False, 1, deadline=time.monotonic() + 300)
    assert found == {}
    assert "invalid choice: 'no such part'" in failures["no such part"]


def test_the_counted_operations_are_those_of_the_matrix_products() -> None:
    config = Phi3LoraConfig(rank=4, device="cpu", precision="float32")
    model = add_adapter(random_phi3(TINY, CPU, "float32", PACKED_ATTENTION), config)
    scorer = LanguageModelScorer(model, CPU, "float32").train()
    row = pack(examples(config, TINY)[:3])
    with FlopCounterMode(display=False) as counter:
        scorer(row).backward()
    by_operator = {str(operator): count for operator, count in counter.get_flop_counts()["Global"].items()}
    attention = sum(count for name, count in by_operator.items() if "bmm" in name)
    assert attention > 0
    assert count_flops(model, row) - attention_flops(model, row) == sum(by_operator.values()) - attention


def attention_flops(model: torch.nn.Module, row: PackedRow) -> int:
    """12 per pair of tokens and dimension, by listing the pairs."""
    pairs, shared = 0, row.segment_sizes[0]
    for start, size in enumerate(row.segment_sizes):
        pairs += sum((shared if start else 0) + position + 1 for position in range(size))
    width: int = model.config.hidden_size  # type: ignore[union-attr,assignment]
    return 12 * pairs * width * TINY.phi3_layers
