"""Makes torch compute the same bytes from the same inputs, on a CPU and on a GPU."""

from __future__ import annotations

import os

import torch

from schemas.recipes.base import RecipeConfig

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""Without it, cuBLAS may add in another order, and torch refuses to compute deterministically on a GPU:
https://docs.nvidia.com/cuda/cublas/#results-reproducibility"""


def make_deterministic(config: RecipeConfig) -> None:
    """Set the threads, the seed and the algorithms of torch, so that equal inputs give equal bytes.

    Call it in the thread that trains, before anything is computed on a GPU: torch keeps the number of threads for
    each thread, and cuBLAS reads its variable once.
    """
    os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing reads it
    torch.manual_seed(config.seed)
