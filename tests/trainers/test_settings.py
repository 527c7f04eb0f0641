"""Settings: shared names, no unknown names, and the recipe's defaults are theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import BadConfiguration
from schemas.models import MODELS
from schemas.recipes.base import OF_THE_MACHINE
from streams.settings import load_settings
from trainers.settings import (
    load_machine_fields,
    load_trainer_settings,
    recipe_variables,
    variable_prefix,
)


def test_folders_are_shared_with_the_streaming_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SX9_OUTPUT_DIR", "/somewhere")
    assert load_trainer_settings().models_dir == Path("/somewhere/models")
    assert load_trainer_settings(output_dir="/else").models_dir == Path("/else/models")


@pytest.mark.parametrize("model", MODELS)
def test_each_recipe_has_variables_of_its_own(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    assert load_machine_fields(model) == {}
    monkeypatch.setenv(f"{variable_prefix(model)}SAVE_STEPS", "5")
    monkeypatch.setenv(f"{variable_prefix(model)}device".lower(), "cpu")
    changed = {name: load_machine_fields(name) for name in MODELS}
    assert changed == {name: {"device": "cpu", "save_steps": 5} if name == model else {} for name in MODELS}
    load_trainer_settings()


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        ("SX9_TRAINER_MARGIN", r"`margin` in \[MODEL\.gate\]"),
        ("SX9_TRAINER_MIN_HOLDOUT", r"`min_examples` in \[MODEL\.gate\]"),
        ("SX9_TRAINER_GNN_EPOCHS", r"`epochs` in \[gnn-threat\.recipe\]"),
        ("SX9_TRAINER_GNN_CHILD_RATE", r"`warm_start_lr_scale` in \[gnn-threat\.recipe\]"),
    ],
)
def test_a_variable_that_moved_to_the_policy_is_refused_with_its_place(
    monkeypatch: pytest.MonkeyPatch, variable: str, place: str
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(BadConfiguration, match=f"{variable} is now {place} of the policy file"):
        load_trainer_settings()


def test_what_decides_a_result_has_no_variable() -> None:
    for model in MODELS:
        assert set(recipe_variables(model).values()) <= set(OF_THE_MACHINE)


def test_an_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SX9_TRAINER_EPOCH", "5")
    known = r"unknown setting SX9_TRAINER_EPOCH; known are .*SX9_TRAINER_GNN_DEVICE, .*SX9_TRAINER_MAX_ATTEMPTS"
    with pytest.raises(BadConfiguration, match=known):
        load_trainer_settings()


def test_an_unknown_name_is_refused_in_lower_case_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("sx9_trainer_epoch", "5")
    with pytest.raises(BadConfiguration, match=r"unknown setting sx9_trainer_epoch; known are"):
        load_trainer_settings()
    monkeypatch.delenv("sx9_trainer_epoch")
    monkeypatch.setenv("sx9_kafka_bootstap", "broker:9092")
    with pytest.raises(BadConfiguration, match=r"unknown setting sx9_kafka_bootstap; known are"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [("SX9_TRAINER_MAX_ATTEMPTS", "0"), ("SX9_TRAINER_METRICS_PORT", "x")],
)
def test_a_bad_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadConfiguration, match=f"bad setting {name}='{value}': "):
        load_trainer_settings()


@pytest.mark.parametrize(("field", "value"), [("SAVE_STEPS", "0"), ("LOGGING_STEPS", "many")])
def test_a_bad_value_of_a_recipe_is_named(monkeypatch: pytest.MonkeyPatch, field: str, value: str) -> None:
    monkeypatch.setenv(f"SX9_TRAINER_DISTILBERT_{field}", value)
    with pytest.raises(BadConfiguration, match=f"SX9_TRAINER_DISTILBERT_{field}='{value}': Expected"):
        load_machine_fields("distilbert-mitre")
