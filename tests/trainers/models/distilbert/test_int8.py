"""Linear layers in int8: near float32, a scale for each row and channel, and refused where they are wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from schemas.errors import BadConfiguration
from trainers.models.distilbert.int8 import Int8Linear, to_int8


def pair(inputs: int = 96, outputs: int = 40) -> tuple[nn.Linear, torch.Tensor]:
    """A layer, and rows of very different sizes for it."""
    torch.manual_seed(17)
    rows = torch.randn(30, inputs) * torch.logspace(-3, 3, 30)[:, None]
    return nn.Linear(inputs, outputs), rows


@torch.inference_mode()
def test_every_row_is_near_float32_whatever_its_size_and_does_not_depend_on_the_others() -> None:
    layer, rows = pair()
    ours, exact = Int8Linear(layer)(rows), layer(rows)
    assert ((ours - exact).norm(dim=1) <= 0.03 * exact.norm(dim=1)).all()
    assert not torch.equal(ours, exact), "it is not float32 that computed this"
    assert torch.equal(ours[:1], Int8Linear(layer)(rows[:1]))
    assert torch.allclose(Int8Linear(layer)(torch.zeros(2, 3, 96)), layer.bias)


@torch.inference_mode()
def test_a_channel_with_large_weights_costs_the_others_nothing() -> None:
    layer, rows = pair()
    before = Int8Linear(layer)(rows)
    layer.weight[0] *= 10_000
    assert torch.equal(Int8Linear(layer)(rows)[:, 1:], before[:, 1:])


@torch.inference_mode()
def test_the_largest_weights_and_inputs_do_not_overflow() -> None:
    layer = nn.Linear(1_536, 4)
    layer.weight.fill_(1.0)
    layer.bias.zero_()
    rows = torch.stack([torch.ones(1_536), -torch.ones(1_536)])
    assert torch.allclose(Int8Linear(layer)(rows), layer(rows), rtol=1e-3)


def test_a_processor_without_int8_or_one_that_is_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> torch.Tensor:
        raise NotImplementedError("no kernel")

    module = nn.Sequential(pair()[0], nn.ReLU())
    with monkeypatch.context() as patched:
        patched.setattr(torch.ops.onednn, "qlinear_prepack", none)
        with pytest.raises(BadConfiguration, match=r"no kernel.*precision float32"):
            to_int8(module)
    with monkeypatch.context() as patched:
        patched.setattr(Int8Linear, "forward", lambda _, x: torch.zeros(len(x), 40))
        with pytest.raises(BadConfiguration, match=r"limit 0.1.*precision float32"):
            to_int8(module)
    assert type(module[0]) is nn.Linear
    to_int8(module)
    assert [type(each) for each in module] == [Int8Linear, nn.ReLU]
