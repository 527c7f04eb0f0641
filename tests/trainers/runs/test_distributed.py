"""The processes of a run, before they train. `tests/sx9_ml_models/test_training.py` has two real processes."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from schemas.errors import BadConfiguration
from schemas.recipes.base import RecipeConfig
from schemas.windows import Span
from trainers.runs import distributed


def test_a_single_process_is_the_main_process_and_does_not_wait() -> None:
    distributed.join(RecipeConfig(device="cpu", threads=1))
    assert distributed.world_size() == 1
    span = Span(0, 3, 3, "digest")
    assert distributed.broadcast_from_main(span, Span) is span
    distributed.check_agreement("these", "set of examples")
    distributed.barrier()


def test_a_later_call_can_use_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed.join(RecipeConfig(device="cpu", threads=1))
    assert Accelerator(cpu=True, mixed_precision="no").mixed_precision == "no"
    with monkeypatch.context() as patch:
        patch.setattr(distributed, "device_of", lambda config: torch.device("cuda"))
        distributed.join(RecipeConfig(threads=1))
    assert Accelerator(mixed_precision="bf16").mixed_precision == "bf16", "accelerate refuses a change by itself"
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_process_with_other_inputs_than_the_main_process_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "_broadcast", lambda mine: mine)
    distributed.check_agreement("these", "set of examples")
    monkeypatch.setattr(distributed, "_broadcast", lambda mine: bytes(16))
    with pytest.raises(BadConfiguration, match=r"another set of examples than the main process: .* file system"):
        distributed.check_agreement("these", "set of examples")
