"""What a version is made of comes from the journal alone: the environment of a trainer changes none of it."""

from __future__ import annotations

import msgspec
import pytest

from schemas.codec import decode, encode
from schemas.errors import BadData
from schemas.journal import PolicyChange, Tick
from schemas.models import MODELS, completed, model_spec
from schemas.policy import GateLimits
from schemas.recipes.base import OF_THE_MACHINE, OF_THE_POLICY, recipe_values
from schemas.windows import Trigger
from streams.core.fold import fold, initial
from tests.streams.core.records import training
from trainers.runs.execute_run import config_of
from trainers.settings import load_machine_fields, variable_prefix


def decided(model: str, epochs: int, gate: GateLimits) -> Trigger:
    """The trigger of a journal with a policy, as it comes from the topic."""
    policy = msgspec.structs.replace(model_spec(model).policy, bootstrap_examples=20, gate=gate)
    change = PolicyChange(completed(model, msgspec.structs.replace(policy, recipe={"epochs": epochs})))
    _, outputs = fold(initial(model), enumerate([change, *training(40, "execution"), Tick(1)]))
    (found,) = [output for output in outputs if isinstance(output, Trigger)]
    return decode(encode(found), Trigger)


@pytest.mark.parametrize("model", MODELS)
def test_another_environment_makes_the_same_recipe_and_gate_of_a_trigger(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger = decided(model, 7, GateLimits(margin=0.5))
    here = config_of(trigger, load_machine_fields(model))
    for field, value in {"DEVICE": "cpu", "SAVE_STEPS": "3", "LOGGING_STEPS": "4"}.items():
        monkeypatch.setenv(f"{variable_prefix(model)}{field}", value)
    there = config_of(trigger, load_machine_fields(model))
    assert (here.save_steps, there.save_steps, there.device) == (500, 3, "cpu")
    assert recipe_values(here) == recipe_values(there) == trigger.recipe
    assert (there.epochs, there.seed, trigger.gate) == (7, trigger.seed, GateLimits(margin=0.5))


def test_a_trigger_says_every_field_that_decides_the_result() -> None:
    for model in MODELS:
        fields = set(model_spec(model).config.__struct_fields__)
        assert decided(model, 1, GateLimits()).recipe.keys() == fields - {*OF_THE_POLICY, *OF_THE_MACHINE}


def test_a_recipe_that_the_model_does_not_take_is_named() -> None:
    trigger = decided(MODELS[0], 7, GateLimits())
    wrong = msgspec.structs.replace(trigger, recipe=trigger.recipe | {"epochs": "many"})
    with pytest.raises(BadData, match=r"the recipe of trigger .* Expected `int`, got `str`"):
        config_of(wrong, {})
