"""What one process of several does before it trains; two real ones are in `tests/command/test_training.py`."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from schemas.errors import BadConfiguration
from schemas.windows import Span
from trainers.core.config import RecipeConfig
from trainers.runs import distributed as ranks


def test_a_process_alone_is_the_main_one_and_waits_for_nobody() -> None:
    ranks.join(RecipeConfig(device="cpu", threads=1))
    assert ranks.ranks() == 1
    span = Span(0, 3, 3, "digest")
    assert ranks.from_main(span, Span) is span
    ranks.agree("these", "set of examples")
    ranks.wait()


def test_a_later_call_may_use_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks.join(RecipeConfig(device="cpu", threads=1))
    assert Accelerator(cpu=True, mixed_precision="no").mixed_precision == "no"
    with monkeypatch.context() as patch:
        patch.setattr(ranks, "device_of", lambda config: torch.device("cuda"))
        ranks.join(RecipeConfig(threads=1))
    assert Accelerator(mixed_precision="bf16").mixed_precision == "bf16", "accelerate refuses a change by itself"
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_process_that_sees_something_else_than_the_main_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "ranks", lambda: 2)
    monkeypatch.setattr(ranks, "_broadcast", lambda mine: mine)
    ranks.agree("these", "set of examples")
    monkeypatch.setattr(ranks, "_broadcast", lambda mine: bytes(16))
    with pytest.raises(BadConfiguration, match=r"another set of examples than the main process: .* file system"):
        ranks.agree("these", "set of examples")
