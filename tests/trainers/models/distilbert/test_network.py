"""The network's own copy of the conditioning, which makes its file independent of this project."""

from __future__ import annotations

import ast
import inspect

import pytest
import torch

from trainers.core import conditional
from trainers.models.distilbert import network


def test_the_file_of_the_network_imports_only_torch_and_transformers() -> None:
    tree = ast.parse(inspect.getsource(network))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert {str(name).partition(".")[0] for name in imported} == {
        "__future__", "collections", "typing", "torch", "transformers",
    }  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("columns", [[], [0], [1, 3], list(range(5))])
@pytest.mark.parametrize("spread", [0.0, 1.0, 50.0])
def test_the_network_conditions_with_the_same_bits_as_the_project(
    dtype: torch.dtype, columns: list[int], spread: float
) -> None:
    logits = spread * torch.randn(64, 5, dtype=dtype, generator=torch.Generator().manual_seed(3))
    assert torch.equal(
        network.condition_on_at_least_one(logits, columns), conditional.condition_on_at_least_one(logits, columns)
    )
