"""bf16 by automatic mixed precision, the precision of a GPU, on the CPU: the code is the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors import safe_open

from schemas.recipes.base import RecipeConfig
from schemas.scores import HOLDOUT
from tests.trainers.models.distilbert import training as distilbert
from tests.trainers.models.gnn import graphs as gnn
from tests.trainers.samples import examples
from trainers.bases.resolve import Base
from trainers.core.precision import precision_of
from trainers.core.report import Report
from trainers.models.deterministic import CUBLAS_WORKSPACE, make_deterministic

CURVE_TOLERANCE = 0.05
"""Mean difference of two curves over the steps, as a share of the first loss."""


def trained_in(recipe: str, precision: str, folder: Path, tiny: Base, cache: Path) -> Report:
    if recipe == "gnn":
        config: Any = msgspec.structs.replace(gnn.CONFIG, precision=precision, dropout=0.0)
        return gnn.trained(cache, folder, gnn.small_graph(), config=config)
    config = distilbert.tiny_config(precision=precision, dropout=0.0)
    return distilbert.train(folder, tiny, examples(200), config=config)


@pytest.mark.parametrize(("recipe", "task"), [("distilbert", "tactics"), ("gnn", "techniques")])
def test_bf16_gives_the_curve_and_the_scores_of_float32(
    recipe: str, task: str, tiny: Base, models_cache: Path, tmp_path: Path
) -> None:
    by_precision = {
        precision: trained_in(recipe, precision, tmp_path / precision, tiny, models_cache)
        for precision in ("float32", "bfloat16")
    }
    curves = [[point.loss for point in report.history.points] for report in by_precision.values()]
    assert curves[0] != curves[1], "it did compute in bf16"
    differences = [abs(a - b) for a, b in zip(*curves, strict=True)]
    assert sum(differences) / len(differences) < CURVE_TOLERANCE * curves[0][0]
    scores = [report.candidate[task][HOLDOUT] for report in by_precision.values()]
    for name, value in scores[0].metrics.items():
        noise = max(scores[0].errors.get(name, 0.0), 1 / scores[0].examples)
        assert abs(value - scores[1].metrics[name]) <= 3 * noise
    with safe_open(tmp_path / "bfloat16" / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float32}  # noqa: SIM118


def test_the_precision_is_that_of_the_configuration_else_of_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert precision_of(RecipeConfig(), cpu) == "float32"
    assert precision_of(RecipeConfig(precision="bfloat16"), cpu) == "bfloat16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert precision_of(RecipeConfig(), cuda) == "bfloat16"
    assert precision_of(RecipeConfig(precision="float32"), cuda) == "float32"


def test_a_run_sets_what_cublas_needs_to_be_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CUBLAS_WORKSPACE, raising=False)
    make_deterministic(RecipeConfig(threads=1))
    assert os.environ[CUBLAS_WORKSPACE] == ":4096:8"
