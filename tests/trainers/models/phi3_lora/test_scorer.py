"""Packed rows: hidden states and losses are those of the examples alone."""

from __future__ import annotations

import math

import pytest
import torch

from tests.trainers.models.phi3_lora.material import (
    CPU,
    TINY,
    base_model,
    encoded,
    new_scorer,
)
from trainers.bases.base_models import Base
from trainers.models.phi3_lora.adapter import PACKED_ATTENTION, add_adapter
from trainers.models.phi3_lora.packing import pack
from trainers.models.phi3_lora.scorer import LanguageModelScorer


@pytest.mark.parametrize("attention", [PACKED_ATTENTION, "sdpa"])
def test_an_example_in_a_row_has_the_hidden_states_that_it_has_alone(tiny_phi3: Base, attention: str) -> None:
    model = base_model(tiny_phi3)
    some = encoded(tiny_phi3, range(6))
    model.set_attn_implementation(attention)
    scorer = LanguageModelScorer(add_adapter(model, TINY).eval(), CPU, "float32")
    packed = scorer.hidden_states(row := pack(some)).split(list(row.answer_lengths))
    model.set_attn_implementation("eager")
    assert row.segment_sizes[0] > 0, "all prompts begin with the same tokens"
    for example, ours in zip(some, packed, strict=True):
        ids = torch.tensor([example.prompt + example.answer])
        alone = model.model(input_ids=ids).last_hidden_state[0, len(example.prompt) - 1 : -1]
        assert torch.allclose(ours, alone, atol=2e-5)


def test_no_example_of_a_row_attends_to_another(tiny_phi3: Base) -> None:
    scorer = new_scorer(tiny_phi3)
    one, other, third = encoded(tiny_phi3, [0, 3, 6])
    last = len(third.answer)
    assert torch.equal(
        scorer.hidden_states(pack([one, third]))[-last:], scorer.hidden_states(pack([other, third]))[-last:]
    )


def test_only_answer_tokens_count_in_the_loss(tiny_phi3: Base) -> None:
    scorer = new_scorer(tiny_phi3)
    some = encoded(tiny_phi3, range(4))
    model = base_model(tiny_phi3).eval()
    expected = 0.0
    for example in some:
        labels = torch.tensor([[-100] * len(example.prompt) + list(example.answer)])
        loss = model(input_ids=torch.tensor([example.prompt + example.answer]), labels=labels).loss
        expected += float(loss.detach()) * len(example.answer)
    assert math.isclose(float(scorer(pack(some)).detach()), expected, rel_tol=1e-5)
