"""Loading models in several threads, as a server does."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from transformers import PreTrainedModel

from schemas.recipes.base import FLOAT32
from trainers.bases.resolve import resolve
from trainers.models.phi3_lora.adapter import PADDED_ATTENTION, load_base


def test_models_that_threads_load_at_the_same_time_leave_transformers_as_it_was(models_cache: Path) -> None:
    before = PreTrainedModel.tie_weights
    folder = resolve("tiny-phi3", models_cache, "phi3").folder
    together = threading.Barrier(4)

    def load_some(_: int) -> bool:
        together.wait()
        models = [load_base(folder, FLOAT32, PADDED_ATTENTION) for _ in range(10)]
        return not any(parameter.is_meta for model in models for parameter in model.parameters())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(load_some, range(4)))
    assert PreTrainedModel.tie_weights is before
