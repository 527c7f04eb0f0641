"""Packed rows: hidden states and losses are those of the examples alone."""

from __future__ import annotations

import math

import msgspec
import pytest
import torch

from tests.trainers.models.phi3_lora.material import (
    CPU,
    TINY,
    base_model,
    encoded,
    new_scorer,
)
from trainers.bases.resolve import Base
from trainers.models.phi3_lora.adapter import (
    PACKED_ATTENTION,
    PADDED_ATTENTION,
    add_adapter,
    load_model,
    prepare_precision,
)
from trainers.models.phi3_lora.packing import PromptAnswer, pack
from trainers.models.phi3_lora.scorer import LanguageModelScorer


@pytest.mark.parametrize("attention", [PACKED_ATTENTION, PADDED_ATTENTION])
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


@pytest.mark.parametrize("shared", [True, False], ids=["with a shared prefix", "without"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_attention_of_a_gpu_gives_the_gradients_of_that_of_a_cpu(
    tiny_phi3: Base, shared: bool, checkpointing: bool
) -> None:
    some = encoded(tiny_phi3, range(6)) if shared else [PromptAnswer((9, 8, 7), (6, 5)), PromptAnswer((4, 3), (2,))]
    losses, gradients = [], []
    for attention in (PACKED_ATTENTION, PADDED_ATTENTION):
        scorer = new_scorer(tiny_phi3)
        model = scorer.model.get_base_model()
        model.set_attn_implementation(attention)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        for name, parameter in scorer.named_parameters():
            if "lora_B" in name:  # zero at first, so that A would have no gradient
                torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
        scorer.train()
        loss = scorer(pack(some))
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append(torch.cat([p.grad.flatten() for p in scorer.parameters() if p.grad is not None]))
    assert (pack(some).segment_sizes[0] > 0) == shared
    assert math.isclose(*losses, rel_tol=1e-5)
    assert float(gradients[0].norm()) > 0
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-3 * float(gradients[0].abs().max()))


def test_an_adapter_gets_its_inputs_in_bf16_and_the_same_result(tiny_phi3: Base) -> None:
    some = pack(encoded(tiny_phi3, range(4)))
    losses = []
    for precision in ("bfloat16", "float32"):  # the second as PEFT has it: inputs converted to float32 and back
        config = msgspec.structs.replace(TINY, precision="bfloat16")
        model = prepare_precision(load_model(tiny_phi3.folder, None, config, CPU), precision)
        losses.append(float(LanguageModelScorer(model, CPU, "bfloat16")(some).detach()))
    assert losses[0] == losses[1]
