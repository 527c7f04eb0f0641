"""In which precision a recipe computes: bf16 by automatic mixed precision, or float32 throughout.

Trained weights, gradients and the optimizer are float32 in both. Under automatic mixed precision, matrix products
read and write bf16; sums, normalizations and losses stay float32 (Micikevicius et al. 2018).
"""

from __future__ import annotations

import torch

from schemas.recipes.base import BFLOAT16, FLOAT32, RecipeConfig


def precision_of(config: RecipeConfig, device: torch.device) -> str:
    """The precision of training: the configured one, else `bfloat16` on a GPU that has it, else `float32`."""
    return config.precision or gpu_precision(device)


def gpu_precision(device: torch.device) -> str:
    """`bfloat16` on a GPU with instructions for it (Ampere or later), else `float32`."""
    has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return BFLOAT16 if has_bfloat16 else FLOAT32


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """A context that computes in bf16 by automatic mixed precision, or in float32.

    Args:
        device: Where it computes.
        precision: `float32` or `bfloat16`. With `float32`, an outer context is switched off.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == BFLOAT16)
