"""Linear layers in int8, for serving on a CPU: faster than float32, and less exact.

    x ────────> a scale for each row ──────> uint8 ─┐
    weights ──> a scale for each channel ──> int8 ──┴> sums in int32 ──> x both scales, + bias ──> float32

Nothing is calibrated: a row gets its scale when it comes. With one scale for a whole batch, what is said of a text
would depend on the texts beside it, and F1 would be lower (docs/experiments.md). The kernel is the one that torchao
and PyTorch 2 Export use: it needs no tensors of a quantized dtype, which torch will remove.
"""

from __future__ import annotations

import torch
from torch import nn

from schemas.errors import BadConfiguration

WEIGHT_LIMIT, INPUT_LIMIT = 127, 63
"""Largest magnitudes. Inputs have 7 bits: a processor without VNNI adds two products in 16 bits, which 8 would
overflow."""
ZERO = 64
"""The uint8 that an input of 0 becomes."""
MAX_ERROR = 0.1
"""Largest error of a layer, relative to float32, on normally distributed inputs; rounding makes it 0.01 to 0.02."""
_LEAST = 1e-12
"""Least magnitude by which a row is divided: one of zeros stays one of zeros."""


class Int8Linear(nn.Module):
    """A linear layer, made of one in float32 on the CPU."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach()  # (outputs, inputs)
        self._scales = weight.abs().amax(1).clamp(min=_LEAST) / WEIGHT_LIMIT  # (outputs,)
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)
        rounded = (weight / self._scales[:, None]).round().to(torch.int8)
        self._weight = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._bias = layer.bias.detach()
        self._offset = torch.tensor(ZERO + 0.5)  # converting to uint8 cuts off, and so rounds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the layer: (..., inputs) float32 to (..., outputs) float32."""
        largest = x.abs().amax(-1, keepdim=True).clamp_(min=_LEAST)  # (..., 1)
        rounded = torch.addcmul(self._offset, x, INPUT_LIMIT / largest).to(torch.uint8)
        y = torch.ops.onednn.qlinear_pointwise(
            rounded, 1 / INPUT_LIMIT, ZERO, self._weight, self._scales, self._zeros, None, 1.0, 0, torch.float32,
            "none", [], "",
        )  # fmt: skip
        return torch.addcmul(self._bias, y, largest, out=y)


def to_int8(module: nn.Module) -> None:
    """Replace the linear layers of a module, in place, each once it computes nearly the same.

    Args:
        module: In float32 on the CPU. Its other layers stay as they are. It can't be trained afterwards.

    Raises:
        BadConfiguration: This machine does not compute in int8, or not rightly.
    """
    random = torch.Generator().manual_seed(17)
    for parent in list(module.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(parent, name, _checked(layer, torch.randn(32, layer.in_features, generator=random)))


@torch.inference_mode()
def _checked(layer: nn.Linear, x: torch.Tensor) -> Int8Linear:
    try:
        replaced = Int8Linear(layer)
        error, size = float((replaced(x) - layer(x)).norm()), float(layer(x).norm())
    except (RuntimeError, AttributeError) as reason:
        raise BadConfiguration(
            f"torch {torch.__version__} has no int8 for this processor ({reason}): use the precision float32"
        ) from reason
    if not error <= MAX_ERROR * size:
        raise BadConfiguration(
            f"a layer in int8 on this processor is off by {error / size:.2g} of its result (limit {MAX_ERROR:g}): "
            "use the precision float32"
        )
    return replaced
